// What the evaluator says of sets of videos, and how it shows them.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nodes/evaluator/measures.h"
#include "nodes/evaluator/picture_grid.h"
#include "pipeline/data/bouncing_balls.h"
#include "tests/support/error_of.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

const char* const kFeatures = SGMD_SOURCE_DIR "/launch/models/bouncing_ball_features.safetensors";

at::Tensor Balls(std::int64_t count, std::uint64_t seed) { return DrawBallsInTurn({}, count, seed).video; }

TEST(Measurer, PutsOtherDrawsOfTheSameAtTheFloorAndSmearedOnesAboveIt) {
  const Measurer measurer(LoadVideoFeatures(kFeatures), Balls(256, 1), Balls(256, 2), 8, 1);
  const at::Tensor again = Balls(256, 3);
  at::Tensor smeared = again.clone();
  smeared.slice(2, 6).copy_(at::avg_pool3d(again, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}).slice(2, 6));
  const Measures floor = measurer.Of(again), worse = measurer.Of(smeared), itself = measurer.OfTeacher();
  EXPECT_EQ(itself.At("frechet_teacher").value, 0);
  EXPECT_EQ(itself.At("frechet_teacher").high, 0);
  EXPECT_GT(floor.At("frechet_teacher").low, 0);
  EXPECT_GT(worse.At("frechet_teacher").low, floor.At("frechet_teacher").high);
  for (const char* name : {"mean_speed", "mass", "consistency"}) {
    EXPECT_LT(floor.At(name).low, floor.At(name).value) << name;
    EXPECT_LT(floor.At(name).value, floor.At(name).high) << name;
  }
  EXPECT_DOUBLE_EQ(floor.At("fast_share").value, 0.5) << "strata hold exactly half fast ones";
  EXPECT_EQ(measurer.Of(again).At("frechet_data").low, floor.At("frechet_data").low) << "a function of the seed";
}

TEST(Measurer, RefusesTooFewVideos) {
  EXPECT_THAT(ErrorOf([] { Measurer(LoadVideoFeatures(kFeatures), Balls(128, 1), Balls(128, 2), 8, 1); }),
              HasSubstr("128 videos are too few for a Fréchet distance of 24 features"));
}

TEST(Text, HasTheDecimalsThatTheIntervalBears) {
  EXPECT_EQ(Text({0.2713, 0.2412, 0.3084}), "0.27 [0.24, 0.31]");
  EXPECT_EQ(Text({5.7134, 5.7101, 5.7190}), "5.713 [5.710, 5.719]");
  EXPECT_EQ(Text({12.4, 10.1, 15.2}), "12.4 [10.1, 15.2]");
  EXPECT_EQ(Text({0, 0, 0}), "0");
}

class Grid : public testing::Test {
 protected:
  static constexpr std::uint8_t kPaper = 250;
  PictureGrid Two(bool named) const {
    const at::Tensor black = at::full({3, 4, 8, 8}, -1.0F), white = at::full({3, 4, 8, 8}, 1.0F);
    PictureGrid grid{{}, {}, {{black, white}, {white, black}}};
    if (named) {
      grid.columns = {"teacher 50 steps", "student"};
      grid.rows = {"a red ball", "a blue ball"};
    }
    return grid;
  }
};

TEST_F(Grid, HasALineBetweenTheFramesOfAStrip) {
  const at::Tensor strip = Strips(Two(false), 8);
  const at::Tensor line = strip[20].select(1, 0).slice(0, 10, 10 + 4 * 66 - 2);  // through the black cell
  std::vector<std::int64_t> light;
  for (std::int64_t x = 0; x < line.size(0); ++x) {
    if (line[x].item<int>() == kPaper) light.push_back(x);
  }
  EXPECT_THAT(light, testing::ElementsAre(64, 65, 130, 131, 196, 197));
}

TEST_F(Grid, WritesNamesOnlyWhereThereAreSome) {
  const at::Tensor named = Moving(Two(true), 8), bare = Moving(Two(false), 8);
  EXPECT_EQ(bare.sizes(), (std::vector<std::int64_t>{4, 2 * 74 + 10, 2 * 74 + 10, 3}));
  EXPECT_GT(named.size(1), bare.size(1));
  EXPECT_GT(named.size(2), bare.size(2));
  const auto ink = [](const at::Tensor& part) { return (part < 128).sum().item<std::int64_t>(); };
  const std::int64_t top = named.size(1) - 2 * 74;
  EXPECT_GT(ink(named[0].slice(0, 0, top).slice(1, 106)), 50) << "column heads";
  EXPECT_GT(ink(named[0].slice(0, top).slice(1, 0, 100)), 50) << "row names";
  EXPECT_EQ(ink(bare[0].slice(0, 0, 10)), 0);
  EXPECT_EQ(named[3][top + 5][106 + 5][0].item<int>(), 0) << "first row, first column: black";
  EXPECT_EQ(named[3][top + 5][106 + 74 + 5][0].item<int>(), 255);
}

}  // namespace
}  // namespace sgmd
