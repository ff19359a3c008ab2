#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "pipeline/data/bouncing_balls.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/evaluation/ball_track.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

TEST(BouncingBalls, AreTwoSpeedsThatThePromptDoesNotTell) {
  const BouncingBallBatch batch = DrawBouncingBalls({}, 512, 7);
  const at::Tensor speed = TrackBalls(batch.video).speed;
  const double fast = (speed > kFastSpeed).to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(fast, 0.5, 0.1);
  double per_prompt_low = 1, per_prompt_high = 0;
  const at::Tensor prompt = at::tensor(batch.prompt);
  for (int p = 0; p < 8; ++p) {
    const double share = (speed.masked_select(prompt == p) > kFastSpeed).to(at::kDouble).mean().item<double>();
    per_prompt_low = std::min(per_prompt_low, share);
    per_prompt_high = std::max(per_prompt_high, share);
  }
  EXPECT_GT(per_prompt_low, 0.2);
  EXPECT_LT(per_prompt_high, 0.8);
}

TEST(BouncingBalls, AreAFunctionOfTheSeed) {
  EXPECT_TRUE(at::equal(DrawBouncingBalls({}, 4, 1).video, DrawBouncingBalls({}, 4, 1).video));
  EXPECT_FALSE(at::equal(DrawBouncingBalls({}, 4, 1).video, DrawBouncingBalls({}, 4, 2).video));
}

TEST(BouncingBalls, InTurnHoldEveryPromptEquallyOftenHalfOfThemSlow) {
  const BouncingBallBatch batch = DrawBallsInTurn({}, 64, 7);
  const at::Tensor speed = TrackBalls(batch.video).speed, prompt = at::tensor(batch.prompt);
  for (int p = 0; p < 8; ++p) {
    const at::Tensor of_prompt = speed.masked_select(prompt == p);
    EXPECT_EQ(of_prompt.numel(), 8);
    EXPECT_EQ((of_prompt > kFastSpeed).sum().item<std::int64_t>(), 4);
  }
  const at::Tensor first = batch.position.select(1, 1) - batch.position.select(1, 0);
  EXPECT_LT((first.norm(2, 1) - batch.speed).abs().median().item<double>(), 1e-5) << "most do not bounce at once";
}

TEST(BallTrack, MeasuresAKnownMotion) {
  at::Tensor video = at::full({1, 3, 4, 8, 8}, -1.0F);
  for (int f = 0; f < 4; ++f) video[0][0][f][3][2 + f] = 1;  // one pixel a frame to the right
  const BallTrack track = TrackBalls(video);
  EXPECT_NEAR(track.speed.item<double>(), 1, 1e-5);
  EXPECT_NEAR(track.jitter.item<double>(), 0, 1e-5);
  EXPECT_NEAR(track.mass.item<double>(), 0.85, 1e-5);
}

TEST(PromptBank, PadsWithZerosAndKnowsItsPrompts) {
  TempFolder folder;
  WriteWordPromptBank(folder / "b.safetensors", {"a red ball", "ball"}, "", 5);
  const PromptBank bank = PromptBank::Open(folder / "b.safetensors");
  const at::Tensor rows = bank.Gather(bank.prompts(), 4);
  ASSERT_EQ(rows.sizes(), (std::vector<std::int64_t>{2, 4, 5}));
  EXPECT_TRUE(at::equal(rows[0][2], rows[1][0])) << "the same word has the same vector";
  EXPECT_EQ(rows[0][3].abs().sum().item<double>(), 0);
  EXPECT_EQ(bank.GatherNegative(3, 4).abs().sum().item<double>(), 0);
  EXPECT_THROW(bank.Gather({Digest{1, 2}}, 4), Error);
  EXPECT_THROW(bank.Gather(bank.prompts(), 2), Error);
  EXPECT_EQ(PromptsFromTensor(PromptsToTensor(bank.prompts())), bank.prompts());
}

}  // namespace
}  // namespace sgmd
