#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/data/bouncing_balls.h"
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
