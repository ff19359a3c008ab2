// What comes twice to a trained role changes nothing, and what is not as it should be is not used.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <limits>

#include "nodes/fake_score/scored_samples.h"
#include "nodes/generator/gradients.h"
#include "nodes/ring/frames.h"
#include "pipeline/training/inner_samples.h"
#include "tests/support/error_of.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

message::ScoredSample Scored(std::int64_t step, std::int32_t index, float value = 1,
                             std::vector<std::int64_t> shape = {1, 2}) {
  const TensorFrame x = ToFrame(at::full(shape, value));
  return {{{step, index}, 0, x, x, ToFrame(at::full({1}, 0.5)), {}}, false, x};
}

TEST(ScoredSamples, GivesEachTicketOnceInTheOrderInWhichTheyCame) {
  ScoredSamples samples({1, 2}, 3);
  samples.Add(Scored(0, 1));
  samples.Add(Scored(0, 0));
  samples.Add(Scored(0, 1));
  samples.Add(Scored(1, 0));
  const auto first = samples.Take(0);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].sample.ticket.index, 1);
  EXPECT_EQ(first[1].sample.ticket.index, 0);
  samples.Add(Scored(0, 0));
  EXPECT_TRUE(samples.Take(0).empty()) << "answered before";
  samples.Finish(0);
  samples.Add(Scored(0, 2));
  EXPECT_TRUE(samples.Take(0).empty()) << "its step is over";
  EXPECT_EQ(samples.Take(1).size(), 1U);
}

TEST(ScoredSamples, RefusesWhatTheExperimentDoesNotHave) {
  ScoredSamples samples({1, 2}, 3);
  EXPECT_THAT(ErrorOf([&] { samples.Add(Scored(0, 3)); }), HasSubstr("not of the experiment"));
  EXPECT_THAT(ErrorOf([&] { samples.Add(Scored(0, 0, 1, {2, 1})); }), HasSubstr("shape"));
  EXPECT_THAT(ErrorOf([&] { samples.Add(Scored(4, 0, std::numeric_limits<float>::quiet_NaN())); }),
              HasSubstr("the score of step 4, micro-batch 0 holds an infinite value or no number"));
}

TEST(ScoredSamples, RefusesAnInnerSampleThatIsNotWhole) {
  const auto sample = [](float value, std::vector<std::int64_t> shape) {
    return message::InnerSample{{2, 1}, 0, ToFrame(at::full(shape, value)), {}};
  };
  EXPECT_NO_THROW(RequireWhole(sample(1, {1, 2}), {1, 2}));
  EXPECT_THAT(ErrorOf([&] { RequireWhole(sample(1, {2, 2}), {1, 2}); }), HasSubstr("step 2, micro-batch 1"));
  EXPECT_THAT(ErrorOf([&] {
                RequireWhole(sample(std::numeric_limits<float>::infinity(), {1, 2}), {1, 2});
              }),
              HasSubstr("infinite"));
}

TEST(InnerSamples, OneThatComesAgainChangesNothing) {
  Experiment experiment;
  experiment.inner.source = InnerSource::kFresh;
  experiment.data.micro_batches = 2;
  InnerSamples samples(experiment);
  for (const int index : {0, 0, 1, 0}) {
    samples.AddScored(0, index, {at::full({1}, index), {}});
    samples.AddFresh(0, 0, index, {at::full({1}, 10 + index), {}});
  }
  ASSERT_TRUE(samples.Complete(0));
  EXPECT_EQ(samples.For(0, 0, 0).x_g.item<float>(), 10);
  samples.Finish(0);
  samples.AddFresh(0, 0, 0, {at::full({1}, 10), {}});
  EXPECT_FALSE(samples.Complete(1));
}

message::Gradient GradientOf(const message::Ticket& ticket, float value, std::vector<std::int64_t> shape = {1, 2}) {
  return {ticket, 0, false, {}, ToFrame(at::full(shape, value))};
}

TEST(Gradients, TakesTheFirstOfATicketThatIsOnItsWay) {
  Gradients gradients;
  gradients.Expect({3, 0}, {{}, at::zeros({1, 2}), 3});
  gradients.Accept(GradientOf({3, 1}, 5));
  EXPECT_FALSE(gradients.Has({3, 1})) << "nobody asked for it";
  gradients.Accept(GradientOf({3, 0}, 1));
  gradients.Accept(GradientOf({3, 0}, 2));
  ASSERT_TRUE(gradients.Has({3, 0}));
  const auto [sample, answer] = gradients.Take({3, 0});
  EXPECT_EQ(sample.version, 3);
  EXPECT_EQ(ToTensor(answer.gradient)[0][0].item<float>(), 1);
  gradients.Accept(GradientOf({3, 0}, 1));
  EXPECT_FALSE(gradients.Has({3, 0})) << "used before";
  EXPECT_EQ(gradients.in_flight(), 0U);
}

TEST(Gradients, RefusesOneOfAnotherShape) {
  Gradients gradients;
  gradients.Expect({3, 0}, {{}, at::zeros({1, 2}), 3});
  EXPECT_THAT(ErrorOf([&] {
                gradients.Accept(GradientOf({3, 0}, 1, {2, 1}));
              }),
              HasSubstr("the gradient of step 3, micro-batch 0 does not have the shape"));
  message::Gradient doubles = GradientOf({3, 0}, 1);
  doubles.gradient = ToFrame(at::ones({1, 2}, at::kDouble));
  EXPECT_THAT(ErrorOf([&] { ToEnvelope(doubles); }), HasSubstr("gradient")) << "a message states its dtype";
}

}  // namespace
}  // namespace sgmd
