#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/data/bouncing_balls.h"
#include "pipeline/evaluation/bootstrap.h"
#include "pipeline/evaluation/frechet.h"
#include "pipeline/evaluation/motion_features.h"
#include "pipeline/evaluation/optical_flow.h"
#include "pipeline/evaluation/video_features.h"
#include "pipeline/flow/random.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

TEST(FrechetDistance, OfGaussiansIsTheClosedForm) {
  const at::Tensor i = at::eye(3, at::kDouble), m = at::tensor({1.0, -2.0, 0.5}, at::kDouble);
  EXPECT_NEAR(FrechetDistance({m, i}, {m, i}), 0, 1e-9);
  EXPECT_NEAR(FrechetDistance({m, i}, {m + 1, i}), 3, 1e-9);      // |shift|^2
  EXPECT_NEAR(FrechetDistance({m, 4 * i}, {m, 9 * i}), 3, 1e-9);  // 3 (2 - 3)^2
  // Not commuting: tr(A + B - 2 (A^1/2 B A^1/2)^1/2) of 2 x 2 matrices, where tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)).
  const at::Tensor a = at::tensor({2.0, 1.0, 1.0, 3.0}, at::kDouble).view({2, 2});
  const at::Tensor b = at::tensor({1.0, -0.5, -0.5, 2.0}, at::kDouble).view({2, 2});
  const double trace_ab = at::trace(at::matmul(a, b)).item<double>(), det_ab = 5.0 * 1.75;
  const at::Tensor zero = at::zeros({2}, at::kDouble);
  EXPECT_NEAR(FrechetDistance({zero, a}, {zero, b}), 5 + 3 - 2 * std::sqrt(trace_ab + 2 * std::sqrt(det_ab)), 1e-9);
}

TEST(FrechetDistance, TakesSingularCovariancesAndRefusesNan) {
  const at::Tensor x = at::cat({Noise({50, 2}, 1), at::zeros({50, 3})}, 1);
  EXPECT_NEAR(FrechetDistance(StatisticsOf(x), StatisticsOf(x)), 0, 1e-9);
  at::Tensor bad = x.clone();
  bad[3][1] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(StatisticsOf(bad), Error);
}

// Soft discs that move by a known vector a frame.
at::Tensor MovingDisc(double dx, double dy) {
  const at::Tensor t = at::arange(6, at::kFloat).view({6, 1, 1});
  const at::Tensor x = at::arange(32, at::kFloat).view({1, 1, 32}) - 10 - dx * t;
  const at::Tensor y = at::arange(32, at::kFloat).view({1, 32, 1}) - 12 - dy * t;
  const at::Tensor disc = 2 * at::exp(-(x.square() + y.square()) / 18) - 1;
  return disc.view({1, 1, 6, 32, 32}).expand({1, 3, 6, 32, 32}).contiguous();
}

TEST(OpticalFlow, IsTheSpeedOfWhatMoves) {
  EXPECT_NEAR(OpticalFlow(MovingDisc(0, 0), 4).magnitude.item<float>(), 0, 0.02);
  EXPECT_NEAR(OpticalFlow(MovingDisc(1.0, 0), 4).magnitude.item<float>(), 1.0, 0.15);
  EXPECT_NEAR(OpticalFlow(MovingDisc(0.9, 1.2), 4).magnitude.item<float>(), 1.5, 0.2);
}

TEST(OpticalFlow, ConsistencyIsHighForMotionAndLowForFlicker) {
  const double moving = OpticalFlow(MovingDisc(1.0, 0.5), 4).consistency.item<float>();
  at::Tensor flicker = MovingDisc(1.0, 0.5);
  flicker.slice(2, 1, 6, 2).fill_(-1);  // every other frame is empty
  EXPECT_GT(moving, 0.9);
  EXPECT_LT(OpticalFlow(flicker, 4).consistency.item<float>(), 0.5);
}

// The mean of one kind of number and the distance of two sets, of which the truth is known.
TEST(Bootstrap, CoversTheTruthAboutAsOftenAsItSays) {
  constexpr int kTrials = 200;
  int mean_covered = 0, spread_covered = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const at::Tensor x = 3 + 2 * Noise({100}, SeedFor(1, trial, 0, "test"));
    const auto estimates = Bootstrap(
        {{100, 1}},
        [&](const std::vector<at::Tensor>& members) {
          const at::Tensor chosen = x.index_select(0, members[0]);
          return std::vector<double>{chosen.mean().item<double>(), chosen.std().item<double>()};
        },
        trial);
    EXPECT_DOUBLE_EQ(estimates[0].value, x.mean().item<double>());
    mean_covered += estimates[0].low <= 3 && 3 <= estimates[0].high;
    spread_covered += estimates[1].low <= 2 && 2 <= estimates[1].high;
  }
  EXPECT_NEAR(mean_covered / static_cast<double>(kTrials), kCoverage, 0.04);
  EXPECT_NEAR(spread_covered / static_cast<double>(kTrials), kCoverage, 0.06);
}

TEST(Bootstrap, OfABiasedDistanceStaysAboutItsValueAndTellsItsSpread) {
  // Two sets of one kind: the Fréchet distance is above 0 by their number, and that of their resamples by twice as
  // much.
  std::vector<double> values;
  double width = 0;
  for (int trial = 0; trial < 20; ++trial) {
    const at::Tensor a = Noise({160, 8}, SeedFor(2, trial, 0, "test")),
                     b = Noise({160, 8}, SeedFor(2, trial, 1, "test"));
    const Estimate e = Bootstrap(
        {{160, 1}, {160, 1}},
        [&](const std::vector<at::Tensor>& members) {
          return std::vector<double>{FrechetDistance(StatisticsOf(a.index_select(0, members[0])),
                                                     StatisticsOf(b.index_select(0, members[1])))};
        },
        trial)[0];
    EXPECT_LT(e.low, e.value);
    EXPECT_GT(e.high, e.value);
    values.push_back(e.value);
    width += (e.high - e.low) / 20;
  }
  const double spread = at::tensor(values).std().item<double>();
  EXPECT_GT(width, 2 * 1.96 * spread * 0.7);
  EXPECT_LT(width, 2 * 1.96 * spread * 2);
}

TEST(Bootstrap, KeepsTheShareOfEachKind) {
  // Kind 0 is always 0, kind 1 always 1, of nine videos: nothing is left to chance.
  const at::Tensor x = at::arange(9, at::kLong) % 2;
  const auto mean = [&](const std::vector<at::Tensor>& members) {
    return std::vector<double>{x.index_select(0, members[0]).to(at::kDouble).mean().item<double>()};
  };
  const Estimate stratified = Bootstrap({{9, 2}}, mean, 1)[0], free = Bootstrap({{9, 1}}, mean, 1)[0];
  EXPECT_NEAR(stratified.low, stratified.high, 1e-12);
  EXPECT_GT(free.high - free.low, 0.4);
  EXPECT_EQ(Bootstrap({{9, 1}}, mean, 1)[0].low, free.low);
  EXPECT_THROW(Bootstrap({{1, 2}}, mean, 1), Error);
}

class Features : public testing::Test {
 protected:
  static constexpr std::int64_t kVideos = 1024;
  at::Tensor Draw(std::uint64_t seed) const { return DrawBouncingBalls({}, kVideos, seed).video; }
  double ToData(const at::Tensor& video) const {
    return FrechetDistance(StatisticsOf(network_.Features(video)), data_);
  }
  // Every frame mixed with its neighbours in space.
  static at::Tensor Blurred(const at::Tensor& video, int times) {
    at::Tensor x = video;
    for (int i = 0; i < times; ++i) x = at::avg_pool3d(x, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, false, false);
    return x;
  }
  // The whole frame shifted by whole pixels, another way each frame, in a share of the videos.
  static at::Tensor Shaken(const at::Tensor& video, double share) {
    at::Tensor x = video.clone();
    const auto shaken = static_cast<std::int64_t>(share * static_cast<double>(kVideos));
    for (std::int64_t f = 0; f < 8; ++f) {
      x.slice(0, 0, shaken)
          .select(2, f)
          .copy_(at::roll(video.slice(0, 0, shaken).select(2, f), {f % 2, (f / 2) % 2}, {2, 3}));
    }
    return x;
  }
  MotionFeatures network_ = MotionFeatures::Load(SGMD_SOURCE_DIR "/launch/models/bouncing_ball_features.safetensors");
  FeatureStatistics data_ = StatisticsOf(network_.Features(Draw(1)));
};

TEST_F(Features, NameThePromptAndTheSpeed) {
  const auto accuracy = network_.Test(DrawBouncingBalls({}, kVideos, 3));
  EXPECT_GT(accuracy.prompt, 0.99);
  EXPECT_LT(accuracy.speed_error, 0.05);
}

TEST_F(Features, DistanceOrdersCorruptions) {
  const at::Tensor clean = Draw(2);
  const at::Tensor frozen = clean.slice(2, 0, 1).expand_as(clean).contiguous();
  at::Tensor half_frozen = clean.clone();
  half_frozen.slice(0, 0, kVideos / 2).copy_(frozen.slice(0, 0, kVideos / 2));
  const double floor = ToData(clean);
  const double blur = ToData(Blurred(clean, 1)), more_blur = ToData(Blurred(clean, 2));
  const double half = ToData(half_frozen), all = ToData(frozen);
  const double shaken = ToData(Shaken(clean, 0.5)), more_shaken = ToData(Shaken(clean, 1));
  const double colour = ToData(at::roll(clean, 1, 1));  // red balls turn green
  RecordProperty("distances", StrCat(floor, " blur ", blur, " ", more_blur, " frozen ", half, " ", all, " shaken ",
                                     shaken, " ", more_shaken, " colour ", colour));
  for (const double corrupted : {blur, half, shaken, colour}) EXPECT_GT(corrupted, 3 * floor);
  EXPECT_GT(more_blur, blur);
  EXPECT_GT(all, half);
  EXPECT_GT(more_shaken, shaken);
}

TEST_F(Features, SeeTwoSmearedLastFrames) {
  const at::Tensor clean = Draw(2);
  at::Tensor smeared = clean.clone(), few = clean.clone(), fast = clean.clone();
  smeared.slice(2, 6).copy_(Blurred(clean, 1).slice(2, 6));
  few.slice(0, 0, kVideos / 4).copy_(smeared.slice(0, 0, kVideos / 4));
  // As in students: the last two frames of fast balls are a mixture of those around them.
  const at::Tensor is_fast = (DrawBouncingBalls({}, kVideos, 2).speed > 0.4).view({-1, 1, 1, 1, 1});
  const at::Tensor mixed = (clean.slice(2, 5, 7) + clean.slice(2, 6, 8)) / 2;
  fast.slice(2, 6).copy_(at::where(is_fast, mixed, clean.slice(2, 6)));
  const double floor = ToData(clean);
  RecordProperty("distances",
                 StrCat(floor, " smeared ", ToData(smeared), " a quarter ", ToData(few), " fast ", ToData(fast)));
  EXPECT_GT(ToData(smeared), 10 * floor);
  EXPECT_GT(ToData(few), 2 * floor);
  EXPECT_GT(ToData(fast), 2 * floor);
}

TEST_F(Features, SeeWhichWayTimeRuns) {
  const at::Tensor clean = Draw(2), features = network_.Features(clean), reversed = network_.Features(clean.flip(2));
  // As far from its own reverse as from another video.
  const auto apart = [&](const at::Tensor& other) { return (features - other).square().sum(1).mean().item<double>(); };
  EXPECT_GT(apart(reversed), 0.25 * apart(features.roll(1, 0)));
  // Reflections look alike both ways, so a distance needs data that does not: all first velocities point to the right.
  const BouncingBallBatch batch = DrawBouncingBalls({}, 4 * kVideos, 5);
  const at::Tensor right = batch.video.index({batch.velocity.select(1, 0) > 0.1});
  const at::Tensor one = right.slice(0, 0, 512), other = right.slice(0, 512, 1024);
  const auto distance = [&](const at::Tensor& a, const at::Tensor& b) {
    return FrechetDistance(StatisticsOf(network_.Features(a)), StatisticsOf(network_.Features(b)));
  };
  RecordProperty("distances", StrCat("apart ", apart(reversed), " of ", apart(features.roll(1, 0)), ", reversed ",
                                     distance(one, other.flip(2)), " floor ", distance(one, other)));
  EXPECT_GT(distance(one, other.flip(2)), 5 * distance(one, other));
}

TEST_F(Features, OfAnotherShapeAreRefused) { EXPECT_THROW(network_.Features(at::zeros({2, 3, 4, 8, 8})), Error); }

TEST(VideoFeatures, ComeFromATorchScriptModule) {
  TempFolder folder;
  torch::jit::Module module("means");
  module.define("def forward(self, x):\n  return x.mean([2, 3, 4])\n");
  module.save((folder / "means.pt").string());
  const at::Tensor videos = Noise({70, 3, 4, 4, 4}, 1);
  EXPECT_TRUE(at::allclose(LoadVideoFeatures(folder / "means.pt")(videos), videos.mean({2, 3, 4})));
}

TEST(VideoFeatures, FromAnythingElseIsAnError) {
  TempFolder folder;
  WriteFileAtomically(folder / "no.pt", "not a module");
  EXPECT_THROW(LoadVideoFeatures(folder / "no.pt"), Error);
  EXPECT_THROW(LoadVideoFeatures(folder / "absent.pt"), Error);
}

}  // namespace
}  // namespace sgmd
