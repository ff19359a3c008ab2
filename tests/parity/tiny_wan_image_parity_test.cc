// The way of a real model for image-to-video, tiny and with random weights, through the real programs, against
// diffusers' WanImageToVideoPipeline: prompts and pictures to a bank, sampling, distillation, export.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/tensors/tensor_bytes.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using std::filesystem::path;
using testing::HasSubstr;

const path kReference = SGMD_PARITY_DIR;
// As in tiny_wan_reference.py and tiny_wan_image_reference.py.
constexpr char kPrompts[] = "a red ball bounces slowly\na cat walks on the wall\n";
constexpr char kNegative[] = "'blurred, static, low quality'";
constexpr char kTeacher[] = " --steps 6 --guidance 3.5 ";
constexpr char kStudent[] = " --student-steps 1000 750 500 250 --shift 5 ";
constexpr int kSteps = 6;

class TinyWanImage : public testing::TestWithParam<const char*> {
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
  std::string Pipeline() const { return (kReference / GetParam() / "pipeline").string(); }
  std::string Inputs() const { return (kReference / GetParam() / "inputs.safetensors").string(); }
  // Whether the model is given the picture in the place of its first frame, as TI2V-5B.
  static bool Holds() { return GetParam() == std::string("wan22_5b"); }
  at::Tensor Read(const path& file, const std::string& name) const {
    return CopyToTensor(SafetensorsFile::Open(file).At(name));
  }
  at::Tensor Reference(const std::string& name) const {
    return Read(kReference / GetParam() / "reference.safetensors", name);
  }
  static std::string Picture(const char* name) { return (kReference / (std::string(name) + ".png")).string(); }

  // Largest error of a saved trajectory, relative to the sample it is in.
  double TrajectoryError() const {
    double worst = 0;
    for (int i = 0; i <= kSteps; ++i) {
      const at::Tensor expected = Reference(StrCat("x_", i));
      const at::Tensor ours = Read(folder_ / "trajectory.safetensors", StrCat("x_", i));
      const at::Tensor error =
          (ours.slice(2, ours.size(2) - expected.size(2)) - expected).abs().max() / expected.abs().max();
      worst = std::max(worst, error.to(at::kDouble).item<double>());
    }
    std::printf("%s: largest relative error of a sample: %.1e\n", GetParam(), worst);
    return worst;
  }

  // The prompts with a picture each, in folder_/bank.safetensors.
  int Encode(const std::string& more = "", int frames = Holds() ? 0 : 5) {
    WriteFileAtomically(folder_ / "prompts.txt", kPrompts);
    WriteFileAtomically(folder_ / "images.txt", Picture("first") + "\n" + Picture("second") + "\n");
    return Run(StrCat("sgmd-encode --prompts ", In("prompts.txt"), " --images ", In("images.txt"),
                      Holds() ? " --size 96 64" : " --size 48 32", frames > 0 ? StrCat(" --frames ", frames) : "",
                      " --encoder ", Pipeline(), " --negative ", kNegative, " --out ", In("bank.safetensors"), " ",
                      more));
  }

  TempFolder folder_;
  std::string output_;
};

TEST_P(TinyWanImage, SamplesAsDiffusersDoesFromTheSamePictures) {
  ASSERT_EQ(Run(StrCat("sgmd-sample --model ", Pipeline(), kTeacher, " --noise ", Inputs(), " --embeddings ", Inputs(),
                       " --image ", Picture("first"), " --image ", Picture("second"), " --save-trajectory ",
                       In("trajectory.safetensors"), " --out ", In("latents.safetensors"))),
            0)
      << output_;
  EXPECT_LE(TrajectoryError(), 1e-4);
  if (!Holds()) return;
  const at::Tensor first = Read(folder_ / "latents.safetensors", "latents").slice(0, 0, 1).slice(2, 0, 1);
  EXPECT_TRUE(at::allclose(first, Reference("image"), 1e-5, 1e-5)) << "the video begins with the picture";
}

TEST_P(TinyWanImage, SamplesAsDiffusersDoesFromABank) {
  ASSERT_EQ(Encode("--dtype float32"), 0) << output_;
  const PromptBank bank = PromptBank::Open(folder_ / "bank.safetensors");
  const Conditioning condition = bank.ConditionsOf({bank.prompts().front()}, 512);
  const auto error = [](const at::Tensor& ours, const at::Tensor& theirs) {
    return ((ours - theirs).abs().max() / theirs.abs().max()).item<double>();
  };
  ASSERT_EQ(condition.image.sizes(), Reference("image").sizes());
  const double of_image = error(condition.image, Reference("image"));
  const double of_clip = condition.clip.defined() ? error(condition.clip, Reference("clip")) : 0;
  std::printf("%s: latents of the picture %.1e, CLIP tokens %.1e\n", GetParam(), of_image, of_clip);
  EXPECT_LE(of_image, 1e-5);
  EXPECT_LE(of_clip, 1e-5);
  ASSERT_EQ(Run(StrCat("sgmd-sample --model ", Pipeline(), kTeacher, " --noise ", Inputs(), " --prompt-bank ",
                       In("bank.safetensors"), " --save-trajectory ", In("trajectory.safetensors"), " --out ",
                       In("latents.safetensors"))),
            0)
      << output_;
  EXPECT_LE(TrajectoryError(), 1e-4);
}

TEST_P(TinyWanImage, EncodesAPictureOnceAndGoesOnWhereItWas) {
  ASSERT_EQ(Encode(), 0) << output_;
  const std::string first = ReadFile(folder_ / "bank.safetensors");
  ASSERT_EQ(Encode(), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("3 of 3 prompts were encoded before"));
  EXPECT_TRUE(ReadFile(folder_ / "bank.safetensors") == first);
  EXPECT_EQ(Encode("", 9), 1);
  EXPECT_THAT(output_, HasSubstr("was made with image_encoder"));
}

// The student of a run, and the model itself for tiny_wan_image_check.py.
TEST_P(TinyWanImage, GoesFromPicturesToAVideoOfTheStudent) {
  ASSERT_EQ(Encode(), 0) << output_;
  WriteFileAtomically(
      folder_ / "experiment.toml",
      StrCat("[experiment]\nname = \"tiny_wan\"\nsteps = 3\n[model]\nteacher = \"", Pipeline(),
             "\"\nprompts = \"bank.safetensors\"\nguidance = 3.5\n[data]\nlatent = [", Holds() ? 48 : 16,
             ", 2, 4, 6]\n"
             "micro_batch = 2\nmicro_batches = 2\n[optimizer.generator]\nlearning_rate = 1e-3\n"
             "[optimizer.fake_score]\nlearning_rate = 1e-3\n[checkpoint]\nevery = 3\n"));
  WriteFileAtomically(folder_ / "topology.toml", "[run]\nexperiment = \"experiment.toml\"\nfolder = \"run\"\n");
  ASSERT_EQ(Run("sgmd-launch up " + In("topology.toml")), 0) << output_;
  ASSERT_EQ(Run(StrCat("sgmd-export ", In("run"), " --diffusers ", In("student"), " --base ", Pipeline())), 0)
      << output_;
  const auto latents = [&](const std::string& model, const std::string& name) {
    EXPECT_EQ(Run(StrCat("sgmd-sample --model ", model, kStudent, " --noise ", Inputs(), " --embeddings ", Inputs(),
                         " --vae ", Pipeline(), "/vae --image-encoder ", Pipeline(), "/image_encoder --image ",
                         Picture("first"), " --out ", In(name))),
              0)
        << output_;
    return Read(folder_ / name, "latents");
  };
  const at::Tensor exported = latents(In("student"), "a.safetensors");
  EXPECT_TRUE(at::equal(exported, latents(In("run/student"), "b.safetensors")));
  EXPECT_FALSE(at::allclose(exported, latents(Pipeline(), "c.safetensors"), 1e-4, 1e-4));
}

TEST_P(TinyWanImage, IsExportedForDiffusers) {
  const path out = kReference / "ours" / GetParam();
  ASSERT_EQ(Run(StrCat("sgmd-export ", Pipeline(), " --overwrite --diffusers ", out.string(), " --base ", Pipeline())),
            0)
      << output_;
  ASSERT_EQ(Run(StrCat("sgmd-sample --model ", out.string(), kStudent, " --noise ", Inputs(), " --embeddings ",
                       Inputs(), " --image ", Picture("first"), " --out ", out.string(), ".safetensors")),
            0)
      << output_;
}

TEST_P(TinyWanImage, AsksForAFirstFrameWhereItCannotDoWithout) {
  EXPECT_EQ(Run(StrCat("sgmd-sample --model ", Pipeline(), kTeacher, " --noise ", Inputs(), " --embeddings ", Inputs(),
                       " --out ", In("x.safetensors"))),
            Holds() ? 0 : 1);
  const bool asks = output_.find("the model makes videos of a first frame") != std::string::npos;
  EXPECT_EQ(asks, !Holds()) << output_;
}

INSTANTIATE_TEST_SUITE_P(Of, TinyWanImage, testing::Values("wan22", "wan21", "wan22_5b"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sgmd
