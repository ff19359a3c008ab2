// What the evaluator makes of decoded videos beside the teacher's, and what it says of students that collapse.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nodes/evaluator/collapse_watch.h"
#include "nodes/evaluator/preview_measures.h"
#include "pipeline/flow/random.h"
#include "tests/support/error_of.h"

namespace sgmd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A soft ball that moves `speed` px a frame to the right, in frames of `side` px.
at::Tensor MovingBall(double speed, std::int64_t side = 64, double red = 1, std::int64_t frames = 6) {
  const at::Tensor axis = at::arange(side, at::kFloat), y = axis.view({side, 1}), x = axis.view({1, side});
  const double radius = static_cast<double>(side) / 8, middle = static_cast<double>(side) / 2;
  std::vector<at::Tensor> video;
  for (std::int64_t f = 0; f < frames; ++f) {
    const double at = static_cast<double>(side) / 3 + speed * static_cast<double>(f);
    const at::Tensor ball = at::exp(-((x - at).square() + (y - middle).square()) / (2 * radius * radius));
    video.push_back(at::stack({red * ball, ball, ball}) * 2 - 1);
  }
  return at::stack(video, 1).unsqueeze(0);
}

PreviewRecords RecordsOf(const std::vector<at::Tensor>& videos) {
  PreviewRecords records;
  for (const at::Tensor& video : videos) Observe(video, records);
  return records;
}

TEST(PreviewMeasures, TellHowMuchOfTheTeachersMotionAndColourIsLeft) {
  const PreviewRecords teacher = RecordsOf({MovingBall(2), MovingBall(3), MovingBall(4)}),
                       half = RecordsOf({MovingBall(1), MovingBall(1.5), MovingBall(2)}),
                       red = RecordsOf({MovingBall(2, 64, 0.5), MovingBall(3, 64, 0.5), MovingBall(4, 64, 0.5)});
  const Measures itself = PreviewMeasures(teacher, teacher, 1);
  EXPECT_DOUBLE_EQ(itself.At("motion").value, 1);
  EXPECT_EQ(itself.At("dynamic_degree").value, 1);
  EXPECT_GT(itself.At("flow").value, 1);
  EXPECT_LT(itself.At("flow").low, itself.At("flow").high);
  EXPECT_NEAR(PreviewMeasures(half, teacher, 1).At("motion").value, 0.5, 0.1);
  EXPECT_GT(PreviewMeasures(red, teacher, 1).At("saturation").value, 0.01);
  EXPECT_NEAR(itself.At("saturation").value, 0, 1e-6);
}

TEST(PreviewMeasures, OfStillVideosHaveNoMotion) {
  const PreviewRecords teacher = RecordsOf({MovingBall(3)}), still = RecordsOf({MovingBall(0)});
  const Measures measures = PreviewMeasures(still, teacher, 1);
  EXPECT_NEAR(measures.At("motion").value, 0, 0.02);
  EXPECT_EQ(measures.At("dynamic_degree").value, 0);
}

// A pattern of 24 x 24 patches that moves to the right by `speed` px a frame, in frames of `side` px.
at::Tensor MovingPattern(std::int64_t speed, std::int64_t side) {
  const at::Tensor coarse = Noise({1, 3, 24, 24}, 1).clamp(-2, 2) / 2;
  const at::Tensor pattern = at::upsample_bicubic2d(coarse, {side, side}, /*align_corners=*/false)[0].clamp(-1, 1);
  std::vector<at::Tensor> video;
  for (std::int64_t f = 0; f < 5; ++f) video.push_back(pattern.roll(speed * f, -1));
  return at::stack(video, 1).unsqueeze(0);
}

// Large videos are reduced to be measured.
TEST(PreviewMeasures, CountFlowInPixelsOfTheVideo) {
  EXPECT_NEAR(RecordsOf({MovingPattern(2, 128)}).flow.front(), 2, 0.3);
  EXPECT_NEAR(RecordsOf({MovingPattern(8, 512)}).flow.front(), 8, 1.2);
}

TEST(PreviewMeasures, NeedAVideoOfEachForTheOther) {
  const PreviewRecords one = RecordsOf({MovingBall(1)}), two = RecordsOf({MovingBall(1), MovingBall(2)});
  EXPECT_THAT(ErrorOf([&] { PreviewMeasures(one, two, 1); }), HasSubstr("1 videos of the student beside 2"));
}

Measures Of(const Estimate& motion, const Estimate& colour = {1, 1, 1}) {
  return {{"motion", "colour"}, {motion, colour}};
}

auto Sign(const char* name, const char* words) {
  return testing::AllOf(testing::Field(&CollapseWatch::Sign::name, testing::StrEq(name)),
                        testing::Field(&CollapseWatch::Sign::sentence, HasSubstr(words)));
}

TEST(CollapseWatch, SaysOnceThatVideosAreStatic) {
  CollapseWatch watch;
  EXPECT_THAT(watch.OnMeasures(0, Of({0.5, 0.4, 0.6})), IsEmpty());
  EXPECT_THAT(watch.OnMeasures(10, Of({0.2, 0.1, 0.24})), ElementsAre(Sign("static", "nearly static at step 10")));
  EXPECT_THAT(watch.OnMeasures(20, Of({0.2, 0.1, 0.24})), IsEmpty());
  EXPECT_THAT(watch.OnMeasures(30, Of({0.9, 0.8, 1.0})), IsEmpty());
  EXPECT_THAT(watch.OnMeasures(40, Of({0.1, 0.1, 0.1})), ElementsAre(Sign("static", "nearly static at step 40")));
}

TEST(CollapseWatch, ComparesMotionWithTheBestBefore) {
  CollapseWatch watch;
  watch.OnMeasures(10, Of({1.0, 0.9, 1.1}));
  EXPECT_THAT(watch.OnMeasures(20, Of({0.5, 0.3, 0.7})), IsEmpty()) << "not certain";
  EXPECT_THAT(watch.OnMeasures(30, Of({0.5, 0.45, 0.55})), ElementsAre(Sign("falling", "where it was 1 at step 10")));
}

TEST(CollapseWatch, SaysThatColoursAreTooStrong) {
  CollapseWatch watch;
  EXPECT_THAT(watch.OnMeasures(10, Of({1, 1, 1}, {1.4, 1.2, 1.6})), IsEmpty()) << "not certain";
  EXPECT_THAT(watch.OnMeasures(20, Of({1, 1, 1}, {1.5, 1.35, 1.7})),
              ElementsAre(Sign("colourful", "colours are too strong")));
}

}  // namespace
}  // namespace sgmd
