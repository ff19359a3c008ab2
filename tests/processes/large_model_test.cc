// What large models are trained with, through the whole pipeline: adapters, bfloat16 compute, checkpointed blocks.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "common/storage/safetensors.h"
#include "pipeline/models/lora.h"
#include "pipeline/models/wan_transformer.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

constexpr double kPatience = 120;
constexpr char kLora[] = "[lora]\nrank = 4\nalpha = 8\n";
constexpr char kCheckpointBlocks[] = "[generator]\ncheckpoint_blocks = true\n[fake_score]\ncheckpoint_blocks = true\n";

void ExpectSerialWeights(TinyRun& run) {
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(Adapters, MatchTheSerialLoopAndAreAllThatCheckpointsHold) {
  TinyRun run(12, kLora);
  ExpectSerialWeights(run);
  const auto checkpoint = run.run() / "checkpoints" / "step-00000012";
  for (const char* file : {"generator.model", "generator.ema", "fake_score.model"}) {
    const SafetensorsFile weights = SafetensorsFile::Open(checkpoint / (std::string(file) + ".safetensors"));
    std::size_t adapters = 0;
    for (const TensorView& view : weights.tensors()) adapters += view.name.find(".lora_") != view.name.npos ? 1 : 0;
    EXPECT_EQ(adapters, 2U * 10 * 2) << file;  // pairs of ten Linears in each of two blocks
    EXPECT_EQ(weights.tensors().size() - adapters, std::string(file) == "generator.ema" ? 1U : 0U)
        << file;  // its counter
  }
  // The student is a whole model: the teacher's tensors, those under adapters changed.
  const SafetensorsFile student = SafetensorsFile::Open(run.run() / "student" / "diffusion_pytorch_model.safetensors");
  const SafetensorsFile teacher = SafetensorsFile::Open(run.folder() / "model" / "diffusion_pytorch_model.safetensors");
  ASSERT_EQ(student.tensors().size(), teacher.tensors().size());
  for (const TensorView& view : teacher.tensors()) {
    const TensorView& other = student.At(view.name);
    const bool equal = std::equal(view.bytes.begin(), view.bytes.end(), other.bytes.begin(), other.bytes.end());
    const bool adapted =
        view.name.ends_with(".weight") && view.name.starts_with("blocks.") && view.name.find("norm") == view.name.npos;
    EXPECT_EQ(equal, !adapted) << view.name;
  }
  // And what anyone gets who merges the checkpoint's adapters into the teacher.
  WanTransformer merged = WanTransformer::Load(run.folder() / "model", at::kCPU);
  MergeLora(merged, ReadAdapters(ShardedSafetensors::Open(checkpoint / "generator.ema.safetensors")),
            LoraOf(run.experiment()).Scale());
  for (const auto& [name, p] : merged.parameters()) EXPECT_TRUE(at::equal(p, CopyToTensor(student.At(name)))) << name;
}

TEST(Adapters, OfAKilledRunEndInTheWeightsOfACalmOne) {
  TinyRun run(100, kLora);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill("sgmd-generator"));
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_NE(up.Output().find("resuming at step"), std::string::npos) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

// The serial loop does not checkpoint blocks: where that is done does not change the weights.
TEST(CheckpointedBlocks, MatchTheSerialLoop) {
  TinyRun run(12, "", kCheckpointBlocks);
  ExpectSerialWeights(run);
}

TEST(CheckpointedBlocks, MatchTheSerialLoopWithAdapters) {
  TinyRun run(12, kLora, kCheckpointBlocks);
  ExpectSerialWeights(run);
}

TEST(Bfloat16, RunFinishesAndMatchesTheSerialLoop) {
  TinyRun run(2, "[precision]\ncompute = \"bfloat16\"\n");
  ExpectSerialWeights(run);
  const auto checkpoint = run.run() / "checkpoints" / "step-00000002";
  for (const TensorView& view : SafetensorsFile::Open(checkpoint / "generator.model.safetensors").tensors()) {
    EXPECT_EQ(view.dtype, DType::kF32) << view.name;  // the masters
  }
}

}  // namespace
}  // namespace sgmd
