#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "nodes/sampler/output.h"
#include "nodes/sampler/text.h"
#include "nodes/sampler/trajectories.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/vae/video_size.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

WanConfig ConfigOf(std::int64_t channels) {
  WanConfig config;
  config.in_dim = config.out_dim = channels;
  return config;
}

TEST(LatentShape, IsThePublishedOneByDefault) {
  EXPECT_THAT(LatentShape(ConfigOf(16), {}), ElementsAre(16, 21, 60, 104));
  EXPECT_THAT(LatentShape(ConfigOf(48), {}), ElementsAre(48, 31, 44, 80));
  EXPECT_THAT(LatentShape(ConfigOf(16), {.frames = 1, .height = 720, .width = 1280}), ElementsAre(16, 1, 90, 160));
}

// The 5B model cannot run at height 720: its cells are 16 pixels and its patches two cells.
TEST(LatentShape, NamesTheNearestSizeThatFits) {
  EXPECT_THAT(ErrorOf([] { LatentShape(ConfigOf(48), {.frames = {}, .height = 720, .width = 1280}); }),
              HasSubstr("the nearest size that does: 121 frames of 736x1280; height and width are multiples of 32"));
  EXPECT_THAT(ErrorOf([] { LatentShape(ConfigOf(16), {.frames = 80, .height = 3, .width = 832}); }),
              HasSubstr("81 frames of 16x832"));
}

TEST(ModelParts, FindsThePartsOfAPipeline) {
  TempFolder root;
  for (const char* part : {"transformer", "vae", "text_encoder", "tokenizer", "scheduler"})
    std::filesystem::create_directory(root / part);
  WriteFileAtomically(root / "scheduler/scheduler_config.json", R"({"flow_shift": 3.0})");
  const ModelParts parts = ModelParts::Inspect(root.path());
  ASSERT_EQ(parts.experts.size(), 1U);
  EXPECT_EQ(parts.experts[0].model, root / "transformer");
  EXPECT_EQ(parts.vae, root / "vae");
  EXPECT_EQ(parts.text_encoder, root / "text_encoder");
  EXPECT_EQ(parts.tokenizer, root / "tokenizer");
  EXPECT_EQ(parts.shift, 3.0);
}

TEST(ModelParts, RefusesTwoTransformersWithoutABoundary) {
  TempFolder root;
  EXPECT_THAT(ErrorOf([&] { ModelParts::Inspect(root.path()); }), HasSubstr("no model in this folder"));
  for (const char* part : {"transformer", "transformer_2"}) std::filesystem::create_directory(root / part);
  EXPECT_THAT(ErrorOf([&] { ModelParts::Inspect(root.path()); }), HasSubstr("no boundary_ratio"));
  WriteFileAtomically(root / "model_index.json", R"({"boundary_ratio": 0.875})");
  const ModelParts parts = ModelParts::Inspect(root.path());
  ASSERT_EQ(parts.experts.size(), 2U);
  EXPECT_EQ(parts.experts[0].min_timestep, 875);
  EXPECT_EQ(parts.experts[1].model, root / "transformer_2");
}

TEST(LoadText, RefusesABankThatTheModelCannotRead) {
  TempFolder folder;
  SampleOptions options;
  options.prompt_bank = folder / "bank.safetensors";
  WriteWordPromptBank(options.prompt_bank, {"a ball"}, "", 5);
  WanConfig config = ConfigOf(4);
  config.text_dim = 8;
  EXPECT_THAT(ErrorOf([&] { LoadText(options, {}, config, false); }),
              HasSubstr("the prompt bank has text_dim 5, the model 8"));
  config.text_dim = 5;
  EXPECT_EQ(LoadText(options, {}, config, false).context.size(2), 5);
}

TEST(Integrate, GivesEachExpertItsNoiseLevels) {
  TempFolder folder;
  WriteTinyModel(folder / "high", 1);
  WriteTinyModel(folder / "low", 2);
  TrajectoryOptions how;
  how.grid = ExactGrid(StudentSigmas({1000, 750, 500, 250}, 5));  // timesteps 1000, 937.5 | 833, 625
  how.unipc = false;
  how.guidance = {2, 3};
  how.keep = true;
  const at::Tensor noise = Noise({3, 3, 4, 4, 4}, 1), context = Noise({3, 8, 8}, 2), negative = Noise({1, 8, 8}, 3);
  std::vector<std::int64_t> told;
  const auto samples = Integrate({{folder / "high", 875}, {folder / "low", 0}}, how, noise, context, negative,
                                 [&](std::int64_t done, std::int64_t total) {
                                   told.push_back(done);
                                   EXPECT_EQ(total, 4);
                                 });

  const WanTransformer high = WanTransformer::Load(folder / "high", at::kCPU),
                       low = WanTransformer::Load(folder / "low", at::kCPU);
  at::Tensor x = noise;
  ASSERT_EQ(samples.size(), 5U);
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(at::equal(samples[i], x)) << i;
    const double from = how.grid.sigmas[i], to = how.grid.sigmas[i + 1];
    const at::Tensor sigma = at::full({3}, from, at::kDouble);
    x = EulerStep(x,
                  GuidedVelocity(i < 2 ? high : low, x, sigma, {context}, {negative.expand_as(context)}, i < 2 ? 2 : 3),
                  from, to);
  }
  EXPECT_TRUE(at::equal(samples[4], x));
  EXPECT_THAT(told, ElementsAre(0, 1, 2, 2, 3, 4));
}

TEST(WriteVideos, NumbersSeveralUnlessTheyGoTogether) {
  TempFolder folder;
  const std::vector<at::Tensor> videos(2, at::zeros({3, 16, 16, 3}, at::kByte));
  EXPECT_THAT(WriteVideos(folder / "a.mp4", videos, 8, false), ElementsAre(folder / "a-1.mp4", folder / "a-2.mp4"));
  EXPECT_THAT(WriteVideos(folder / "b.gif", videos, 8, true), ElementsAre(folder / "b.gif"));
  for (const char* name : {"a-1.mp4", "a-2.mp4", "b.gif"})
    EXPECT_GT(std::filesystem::file_size(folder / name), 100U) << name;
  EXPECT_THAT(ErrorOf([&] { CheckExtensions({folder / "c.webm"}); }),
              HasSubstr("cannot write files of type \".webm\""));
}

}  // namespace
}  // namespace sgmd
