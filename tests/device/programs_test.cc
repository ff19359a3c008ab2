// The programs that people run by hand give on a GPU what they give on the CPU, to rounding.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "common/storage/safetensors.h"
#include "pipeline/flow/random.h"
#include "pipeline/tensors/tensor_bytes.h"
#include "tests/support/latent_run.h"
#include "tests/support/tiny_vae.h"

namespace sgmd {
namespace {

constexpr double kPatience = 60;

class ProgramsOnAGpu : public testing::Test {
 protected:
  // The latents that the program writes, on each of the two.
  void ExpectTheSameLatents(const std::vector<std::string>& command) {
    std::vector<at::Tensor> latents;
    for (const char* device : {"cpu", "cuda:1"}) {
      const std::string out = (run_.folder() / StrCat(device, ".safetensors")).string();
      std::vector<std::string> words = command;
      words.insert(words.end(), {"--device", device, "--threads", "1", "--out", out});
      const Process process = run_.Start(words);
      ASSERT_EQ(process.Wait(kPatience), 0) << process.Output();
      latents.push_back(CopyToTensor(SafetensorsFile::Open(out).At("latents")));
    }
    EXPECT_GT(latents[0].abs().max().item<double>(), 0);
    EXPECT_LE((latents[0] - latents[1]).abs().max().item<double>(), 1e-4 * latents[0].abs().max().item<double>());
  }

  TinyRun run_{1};
};

TEST_F(ProgramsOnAGpu, SampleAsOnTheCpu) {
  ExpectTheSameLatents({SGMD_BIN_DIR "/sgmd-sample", "--model", SGMD_SOURCE_DIR "/launch/models/bouncing_ball",
                        "--solver", "euler", "--shift", "1", "--guidance", "2", "--steps", "3", "--dtype", "float32"});
}

TEST_F(ProgramsOnAGpu, EncodeVideosAsOnTheCpu) {
  SaveTinyVae(TinyVae(false), run_.folder() / "vae");
  const std::string clip = (run_.folder() / "clip.mp4").string(), latents = (run_.folder() / "l.safetensors").string(),
                    vae = (run_.folder() / "vae").string();
  SaveTensors(latents, {{"latents", Noise({1, 16, 2, 2, 3}, 1)}});
  const Process decode = run_.Start(
      {SGMD_BIN_DIR "/sgmd-vae", "decode", "--vae", vae, "--latents", latents, "--out", clip, "--device", "cuda"});
  ASSERT_EQ(decode.Wait(kPatience), 0) << decode.Output();
  ExpectTheSameLatents({SGMD_BIN_DIR "/sgmd-vae", "encode", "--vae", vae, "--video", clip});
}

TEST(EvaluatorOnAGpu, MeasuresWhatItDoesOnTheCpu) {
  LatentRun run(5);
  ASSERT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), 0);
  std::vector<std::vector<nlohmann::json>> metrics;
  for (const char* device : {"cpu", "cuda:1"}) {
    std::filesystem::remove_all(run.evaluation());
    const Process evaluator =
        run.Start({SGMD_BIN_DIR "/sgmd-evaluator", "--run", run.run(), "--vae", run.folder() / "vae", "--device",
                   device, "--videos", "2", "--teacher-steps", "2", "--every-checkpoint"});
    ASSERT_EQ(evaluator.Wait(kPatience), 0) << evaluator.Output();
    metrics.push_back(run.Metrics());
  }
  ASSERT_EQ(metrics[0].size(), 2U);
  ASSERT_EQ(metrics[1].size(), 2U);
  for (const char* name : {"flow", "consistency", "saturation", "motion"}) {
    const double cpu = metrics[0][1][name], gpu = metrics[1][1][name];
    EXPECT_NEAR(gpu, cpu, 1e-3 * std::max(1.0, cpu)) << name;
  }
}

TEST(EvaluatorOnAGpu, WatchesARunOnTheCpu) {
  LatentRun run(5, "[evaluator]\nenabled = true\nvae = \"vae\"\nvideos = 2\nteacher_steps = 2\ndevice = \"cuda:1\"\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_EQ(run.Metrics().size(), 2U) << up.Output();
}

}  // namespace
}  // namespace sgmd
