// What comes twice to a trained role changes nothing, and what is not as it should be is not used.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <limits>

#include "nodes/fake_score/scored_samples.h"
#include "nodes/generator/admission.h"
#include "nodes/generator/gradients.h"
#include "nodes/ring/frames.h"
#include "pipeline/training/inner_samples.h"
#include "tests/support/error_of.h"

namespace sgmd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

message::ScoredSample Scored(std::int64_t step, std::int32_t index, float value = 1,
                             std::vector<std::int64_t> shape = {1, 2}) {
  const TensorFrame x = ToFrame(at::full(shape, value));
  return {{{step, index}, 0, x, x, ToFrame(at::full({1}, 0.5)), {}}, false, x};
}

Experiment OfThreeMicroBatches(std::int64_t reuse = 1, InnerSource source = InnerSource::kShared) {
  Experiment e;
  e.data.latent = {2};
  e.data.micro_batches = 3;
  e.outer.reuse = reuse;
  e.inner.source = source;
  return e;
}

// Takes what is ready.
std::vector<std::int32_t> TakeAll(ScoredSamples& samples, std::int64_t step) {
  const std::vector<std::int32_t> ready = samples.Ready(step);
  for (const std::int32_t index : ready) EXPECT_EQ(samples.Take(step, index).sample.ticket.index, index);
  return ready;
}

TEST(ScoredSamples, GivesEachTicketOnce) {
  ScoredSamples samples(OfThreeMicroBatches());
  for (const int index : {1, 0, 1}) samples.Add(Scored(0, index));
  samples.Add(Scored(1, 0));
  EXPECT_THAT(TakeAll(samples, 0), ElementsAre(0, 1));
  samples.Add(Scored(0, 0));
  EXPECT_THAT(samples.Ready(0), IsEmpty()) << "answered before";
  EXPECT_EQ(samples.taken(), 2);
  samples.Add(Scored(0, 2));
  EXPECT_THAT(TakeAll(samples, 0), ElementsAre(2));
  EXPECT_EQ(samples.taken(), 3);
  samples.Finish(0);
  samples.Add(Scored(0, 2));
  EXPECT_THAT(TakeAll(samples, 1), ElementsAre(0)) << "step 0 is over";
}

TEST(ScoredSamples, GivesThemInEveryStepThatUsesThemAndInNoOther) {
  ScoredSamples samples(OfThreeMicroBatches(/*reuse=*/2));
  samples.Finish(3);  // it goes on at step 4
  for (const int index : {0, 1, 2}) samples.Add(Scored(4, index));
  for (const std::int64_t step : {4, 5}) {
    EXPECT_THAT(TakeAll(samples, step), ElementsAre(0, 1, 2)) << step;
    EXPECT_EQ(samples.taken(), 3);
    samples.Finish(step);
  }
  samples.Add(Scored(4, 0));
  EXPECT_THAT(samples.Ready(6), IsEmpty());
  EXPECT_THAT(ErrorOf([&] { samples.Add(Scored(7, 0)); }), HasSubstr("not of the experiment"));
}

TEST(ScoredSamples, PairedOnesComeInOrderOfIndex) {
  ScoredSamples samples(OfThreeMicroBatches(1, InnerSource::kPaired));
  samples.Add(Scored(0, 1));
  EXPECT_THAT(samples.Ready(0), IsEmpty());
  samples.Add(Scored(0, 0));
  EXPECT_THAT(TakeAll(samples, 0), ElementsAre(0, 1));
}

TEST(ScoredSamples, RefusesWhatTheExperimentDoesNotHave) {
  ScoredSamples samples(OfThreeMicroBatches());
  EXPECT_THAT(ErrorOf([&] { samples.Add(Scored(0, 3)); }), HasSubstr("not of the experiment"));
  EXPECT_THAT(ErrorOf([&] { samples.Add(Scored(0, 0, 1, {2, 1})); }), HasSubstr("shape"));
  EXPECT_THAT(ErrorOf([&] { samples.Add(Scored(4, 0, std::numeric_limits<float>::quiet_NaN())); }),
              HasSubstr("the score of step 4, micro-batch 0 holds an infinite value or no number"));
}

TEST(Admission, LetsSoManyStepsGoAheadAndNoneOverAPause) {
  const Admission strict{0, 5, {}}, ahead{2, 5, {8}};
  const auto last = [](const Admission& admission, std::int64_t landed) {
    std::int64_t step = landed;
    while (admission.Admits(step + 1, landed)) ++step;
    return step;
  };
  for (const std::int64_t landed : {0, 3, 4, 5}) EXPECT_EQ(last(strict, landed), landed);
  EXPECT_EQ(last(ahead, 0), 2);
  EXPECT_EQ(last(ahead, 3), 4) << "the checkpoint of step 5";
  EXPECT_EQ(last(ahead, 4), 4);
  EXPECT_EQ(last(ahead, 5), 7);
  EXPECT_EQ(last(ahead, 6), 7) << "it was drained at step 8";
  EXPECT_EQ(last(ahead, 8), 9);
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
  EXPECT_EQ(samples.For(0, 0, 0, 0).x_g.item<float>(), 10);
  samples.Finish(0);
  samples.AddFresh(0, 0, 0, {at::full({1}, 10), {}});
  EXPECT_FALSE(samples.Complete(1));
}

// A free pace ends a step when enough of it has landed, and its last samples may come after that.
TEST(InnerSamples, OneOfAStepThatIsOverIsKeptWhileItMayBeDrawn) {
  Experiment experiment;
  experiment.data.micro_batches = 2;
  experiment.inner.source = InnerSource::kReplay;
  experiment.inner.pace = InnerPacing::kFree;
  experiment.inner.max_age = 2;
  InnerSamples samples(experiment);
  const auto sample = [] { return InnerSample{at::zeros({1, 2}), {Digest{1, 2}}}; };
  samples.AddScored(0, 0, sample());
  samples.Finish(0);
  EXPECT_EQ(samples.Newest(), std::nullopt);
  samples.AddScored(0, 1, sample());
  EXPECT_EQ(samples.Newest(), 0);
  samples.Finish(3);  // steps 1 and later may be drawn from now on
  EXPECT_FALSE(samples.HasAny(0));
  samples.AddScored(0, 1, sample());
  EXPECT_FALSE(samples.HasAny(0));
}

message::Gradient GradientOf(const message::Ticket& ticket, float value, std::vector<std::int64_t> shape = {1, 2}) {
  return {ticket, 0, false, {}, ToFrame(at::full(shape, value))};
}

TEST(Gradients, TakesTheFirstOfATicketThatIsOnItsWay) {
  Gradients gradients;
  gradients.Expect({3, 0}, {{}, {at::zeros({1, 2})}, 3});
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
  gradients.Expect({3, 0}, {{}, {at::zeros({1, 2})}, 3});
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
