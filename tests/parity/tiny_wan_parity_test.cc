// The whole way of a real model, tiny and with random weights, through the real programs: prompts to a bank,
// distillation, export, sampling with text encoder and VAE; and sgmd-sample against diffusers' WanPipeline, number by
// number.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/tensors/tensor_bytes.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using std::filesystem::path;

const path kReference = SGMD_PARITY_DIR;
const std::string kPipeline = (kReference / "pipeline").string(),
                  kInputs = (kReference / "inputs.safetensors").string();
// As in tiny_wan_reference.py.
constexpr char kPrompts[] = "--prompt 'a red ball bounces slowly' --prompt 'a cat walks on the wall'";
constexpr char kNegative[] = "'blurred, static, low quality'";
constexpr char kTeacher[] = " --steps 6 --guidance 5 ";
constexpr char kStudent[] = " --student-steps 1000 750 500 250 --shift 5 ";
constexpr int kSteps = 6;

class TinyWan : public testing::Test {
 protected:
  // A program of ours with its arguments; what it printed is in `output`.
  int Run(const std::string& command) {
    const path log = folder_ / "log";
    const int status =
        std::system(StrCat("timeout 120 ", SGMD_BIN_DIR, "/", command, " >", log.string(), " 2>&1").c_str());
    output_ = ReadFile(log);
    return WEXITSTATUS(status);
  }
  std::string In(const std::string& name) const { return (folder_ / name).string(); }
  at::Tensor Read(const path& file, const std::string& name) const {
    return CopyToTensor(SafetensorsFile::Open(file).At(name));
  }

  // Largest error of a saved trajectory, relative to the sample it is in.
  double TrajectoryError(const path& ours, const std::string& reference = "reference.safetensors") const {
    double worst = 0;
    for (int i = 0; i <= kSteps; ++i) {
      const at::Tensor expected = Read(kReference / reference, StrCat("x_", i));
      const at::Tensor error = (Read(ours, StrCat("x_", i)) - expected).abs().max() / expected.abs().max();
      worst = std::max(worst, error.to(at::kDouble).item<double>());
    }
    return worst;
  }

  // uint8 [height, width, 3].
  at::Tensor ReadPng(const path& png, std::int64_t height, std::int64_t width) const {
    const path raw = folder_ / "raw";
    const std::string command =
        StrCat("ffmpeg -y -loglevel error -i ", png.string(), " -f rawvideo -pix_fmt rgb24 ", raw.string());
    EXPECT_EQ(std::system(command.c_str()), 0);
    std::string bytes = ReadFile(raw);
    EXPECT_EQ(static_cast<std::int64_t>(bytes.size()), height * width * 3);
    bytes.resize(height * width * 3);
    return at::from_blob(bytes.data(), {height, width, 3}, at::kByte).clone();
  }

  // Distils the tiny teacher for three steps into folder_/run, through the bank and the launcher. `more` is appended to
  // the experiment.
  void Distil(const std::string& more) {
    WriteFileAtomically(folder_ / "prompts.txt", "a red ball bounces slowly\na cat walks on the wall\n");
    ASSERT_EQ(Run(StrCat("sgmd-encode --prompts ", In("prompts.txt"), " --encoder ", kPipeline, " --negative ",
                         kNegative, " --out ", In("bank.safetensors"))),
              0)
        << output_;
    WriteFileAtomically(
        folder_ / "experiment.toml",
        StrCat("[experiment]\nname = \"tiny_wan\"\nsteps = 3\n[model]\nteacher = \"", kPipeline,
               "\"\nprompts = \"bank.safetensors\"\nguidance = 5\n[data]\nlatent = [16, 2, 4, 6]\nmicro_batch = 2\n"
               "micro_batches = 2\n[optimizer.generator]\nlearning_rate = 1e-3\n[optimizer.fake_score]\nlearning_rate "
               "= 1e-3\n"
               "[checkpoint]\nevery = 3\n",
               more));
    WriteFileAtomically(folder_ / "topology.toml", "[run]\nexperiment = \"experiment.toml\"\nfolder = \"run\"\n");
    ASSERT_EQ(Run("sgmd-launch up " + In("topology.toml")), 0) << output_;
  }

  TempFolder folder_;
  std::string output_;
};

TEST_F(TinyWan, SamplesAsDiffusersDoesFromTheSameNoiseAndEmbeddings) {
  ASSERT_EQ(
      Run(StrCat("sgmd-sample --model ", kPipeline, kTeacher, " --noise ", kInputs, " --embeddings ", kInputs,
                 " --save-trajectory ", In("trajectory.safetensors"), " --side-by-side --out ", In("frames.png"))),
      0)
      << output_;
  const path ours = folder_ / "trajectory.safetensors";
  for (const char* name : {"sigmas", "timesteps"}) {
    EXPECT_TRUE(
        at::equal(Read(ours, name).to(at::kDouble), Read(kReference / "reference.safetensors", name).to(at::kDouble)))
        << name;
  }
  const double error = TrajectoryError(ours);
  std::printf("largest relative error of a sample: %.1e\n", error);
  EXPECT_LE(error, 1e-4);

  // The picture has a video a row, its five frames from left to right.
  const at::Tensor frames = Read(kReference / "reference.safetensors", "frames");  // [2, 5, 3, 32, 48] in [0, 1]
  const at::Tensor expected = (frames * 255).round().permute({0, 3, 1, 4, 2}).reshape({2 * 32, 5 * 48, 3});
  const at::Tensor difference = (ReadPng(folder_ / "frames.png", 2 * 32, 5 * 48).to(at::kFloat) - expected).abs();
  EXPECT_LE(difference.max().item<float>(), 1) << "levels of 255";
  EXPECT_LE(difference.mean().item<float>(), 0.01);
  EXPECT_GT(expected.std().item<float>(), 0.5) << "the frames must show something";
}

TEST_F(TinyWan, SamplesFromTwoExpertsWithAGuidanceOfEach) {
  const std::string model = (kReference / "experts").string();
  const auto sample = [&](const std::string& more) {
    EXPECT_EQ(Run(StrCat("sgmd-sample --model ", model, kTeacher, more, " --noise ", kInputs, " --embeddings ", kInputs,
                         " --save-trajectory ", In("trajectory.safetensors"), " --out ", In("latents.safetensors"))),
              0)
        << output_;
    return TrajectoryError(folder_ / "trajectory.safetensors", "experts.safetensors");
  };
  const double error = sample("--guidance-low 3");
  std::printf("largest relative error of a sample: %.1e\n", error);
  EXPECT_LE(error, 1e-4);
  EXPECT_GT(sample(""), 1e-3) << "guidance 5 for both";
  EXPECT_GT(sample("--guidance-low 3 --boundary 0.6"), 1e-3);
}

TEST_F(TinyWan, EncodesPromptsAsTheReferenceDoes) {
  ASSERT_EQ(Run(StrCat("sgmd-sample --model ", kPipeline, kTeacher, " --noise ", kInputs, " ", kPrompts,
                       " --negative-prompt ", kNegative, " --save-trajectory ", In("trajectory.safetensors"), " --out ",
                       In("latents.safetensors"))),
            0)
      << output_;
  const double error = TrajectoryError(folder_ / "trajectory.safetensors");
  std::printf("largest relative error of a sample: %.1e\n", error);
  EXPECT_LE(error, 1e-4);
}

// Trains every parameter, or adapters.
class TinyWanDistilled : public TinyWan, public testing::WithParamInterface<const char*> {};

TEST_P(TinyWanDistilled, GoesFromPromptsToAVideoOfTheStudent) {
  Distil(GetParam());
  if (HasFatalFailure()) return;
  ASSERT_EQ(Run(StrCat("sgmd-export ", In("run"), " --diffusers ", In("student"), " --base ", kPipeline)), 0)
      << output_;
  const std::string noise = StrCat(" --noise ", kInputs, " --embeddings ", kInputs);
  ASSERT_EQ(Run(StrCat("sgmd-sample --model ", In("student"), kStudent, " ", kPrompts,
                       " --frames 5 --height 32 --width 48 --out ", In("student.mp4"))),
            0)
      << output_;
  for (const char* video : {"student-1.mp4", "student-2.mp4"}) {
    const std::string command = StrCat("ffprobe -v error -count_frames -select_streams v -show_entries ",
                                       "stream=width,height,nb_read_frames -of csv=p=0 ", In(video), " >", In("probe"));
    ASSERT_EQ(std::system(command.c_str()), 0) << video;
    EXPECT_EQ(ReadFile(folder_ / "probe"), "48,32,5\n") << video;
  }
  // What was exported is what the run left, and it is no longer the teacher.
  const auto latents = [&](const std::string& model, const std::string& name) {
    EXPECT_EQ(Run(StrCat("sgmd-sample --model ", model, kStudent, noise, " --out ", In(name))), 0) << output_;
    return Read(folder_ / name, "latents");
  };
  const at::Tensor exported = latents(In("student"), "a.safetensors");
  EXPECT_TRUE(at::equal(exported, latents(In("run/student"), "b.safetensors")));
  EXPECT_FALSE(at::allclose(exported, latents(kPipeline, "c.safetensors"), 1e-4, 1e-4));
}
INSTANTIATE_TEST_SUITE_P(Trained, TinyWanDistilled, testing::Values("", "[lora]\nrank = 4\n"),
                         [](const auto& info) { return info.index == 0 ? "all" : "adapters"; });

TEST_F(TinyWan, AdaptersOfTheStudentAreExportedAlone) {
  Distil("[lora]\nrank = 4\n");
  if (HasFatalFailure()) return;
  ASSERT_EQ(Run(StrCat("sgmd-export ", In("run"), " --lora ", In("student_lora.safetensors"))), 0) << output_;
  const SafetensorsFile adapters = SafetensorsFile::Open(folder_ / "student_lora.safetensors");
  EXPECT_EQ(adapters.At("diffusion_model.blocks.0.self_attn.q.lora_down.weight").shape[0], 4);
  EXPECT_GT(CopyToTensor(adapters.At("diffusion_model.blocks.0.ffn.2.lora_up.weight")).abs().max().item<float>(), 0);
}

TEST_F(TinyWan, SaysWhichSizeWouldFit) {
  EXPECT_EQ(Run(StrCat("sgmd-sample --model ", kPipeline, " --prompt x --frames 7 --height 40 --width 50 --out ",
                       In("x.mp4"))),
            1);
  EXPECT_THAT(output_, testing::HasSubstr("the nearest size that does: 9 frames of 48x48"));
}

}  // namespace
}  // namespace sgmd
