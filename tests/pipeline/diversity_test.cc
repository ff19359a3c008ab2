#include "pipeline/objectives/diversity.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "pipeline/data/sample_plan.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/training/generator.h"
#include "pipeline/training/teacher.h"
#include "tests/support/tiny_config.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

constexpr char kDiversity[] = "[diversity]\nweight = 0.5\nnoise_bank = 8\n";

// wan_facts §5 "Diversity": the two published settings.
TEST(Diversity, AnchorSigmasEndWhereThePublishedOnesDo) {
  const std::vector<double> sigmas = AnchorSigmas(5, 30, 5);
  ASSERT_EQ(sigmas.size(), 6U);
  EXPECT_EQ(sigmas.front(), 1);
  EXPECT_NEAR(sigmas.back(), 0.96154, 1e-5);
  EXPECT_NEAR(AnchorSigmas(10, 40, 5).back(), 0.9375, 1e-12);
}

TEST(Diversity, TargetIsTheMeanVelocityOfTheTrajectory) {
  WanTransformer teacher(TinyWanConfig(1), at::kCPU, at::kDouble);
  teacher.Initialise(3);
  const at::Tensor z = Noise({2, 2, 2, 2, 2}, 1).to(at::kDouble), context = Noise({2, 4, 6}, 2).to(at::kDouble);
  const std::vector<double> sigmas = AnchorSigmas(3, 9, 5);
  at::Tensor x = z, way = at::zeros_like(z);
  for (int i = 0; i < 3; ++i) {
    const at::Tensor v = GuidedVelocity(teacher, x, at::full({2}, sigmas[i], at::kDouble), {context}, {-context}, 2.0);
    way += (sigmas[i] - sigmas[i + 1]) * v.detach();
    x = EulerStep(x, v.detach(), sigmas[i], sigmas[i + 1]);
  }
  const at::Tensor x_a = EulerSample(teacher, z, sigmas, {context}, {-context}, 2.0);
  EXPECT_TRUE(at::allclose(AnchorTarget(z, x_a, sigmas.back()), way / (1 - sigmas.back()), 1e-9, 1e-9));
}

TEST(Diversity, GradientMatchesFiniteDifferences) {
  constexpr double kWeight = 0.05, kStep = 1e-6;
  WanTransformer student(TinyWanConfig(1), at::kCPU, at::kDouble);
  student.Initialise(3);
  student.SetRequiresGrad(true);
  const at::Tensor z = Noise({2, 2, 2, 2, 2}, 4).to(at::kDouble), target = Noise({2, 2, 2, 2, 2}, 5).to(at::kDouble);
  const at::Tensor context = Noise({2, 4, 6}, 6).to(at::kDouble);
  {
    const c10::NoGradGuard no_grad;  // so that what lies before the head matters
    for (const auto& [name, p] : student.parameters()) {
      if (name == "head.head.weight") p.copy_(Noise(p.sizes(), 7) * 0.3);
    }
  }
  const at::Tensor loss = DiversityLoss(student, z, target, {context}, kWeight);
  const at::Tensor error = student.Forward(z, at::ones({2}, at::kDouble), {context}) - target;
  EXPECT_NEAR(loss.item<double>(), kWeight * error.square().mean().item<double>(), 1e-12);
  loss.backward();
  const c10::NoGradGuard no_grad;
  int checked = 0;
  for (const auto& [name, p] : student.parameters()) {
    const at::Tensor flat = p.view(-1), gradient = p.grad().view(-1);
    const std::int64_t i = gradient.abs().argmax().item<std::int64_t>();
    const double before = flat[i].item<double>();
    const auto at_value = [&](double value) {
      flat[i].fill_(value);
      return DiversityLoss(student, z, target, {context}, kWeight).item<double>();
    };
    const double numeric = (at_value(before + kStep) - at_value(before - kStep)) / (2 * kStep);
    flat[i].fill_(before);
    EXPECT_NEAR(gradient[i].item<double>(), numeric, 1e-9 + 1e-5 * std::abs(numeric)) << name;
    checked += numeric != 0 ? 1 : 0;
  }
  EXPECT_GT(checked, 10);
}

TEST(AnchorPlan, GoesThroughAFiniteBankInOrder) {
  TinyRun run(1, kDiversity);  // 8 entries, micro-batches of 2: 4 of them, 3 a step
  Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  const AnchorPlan first = PlanAnchor(e, bank, 0, 0);
  EXPECT_EQ(first.noise.sizes(), (std::vector<std::int64_t>{2, 3, 4, 4, 4}));
  EXPECT_TRUE(at::equal(first.noise[1], Noise({3, 4, 4, 4}, SeedFor(e.seed, 0, 1, "diversity_noise"))));
  const AnchorPlan again = PlanAnchor(e, bank, 1, 1);
  EXPECT_TRUE(at::equal(again.noise, first.noise));
  EXPECT_EQ(again.prompts, first.prompts);
  for (const auto& [step, index] : {std::pair{0, 1}, {0, 2}, {1, 0}}) {
    EXPECT_FALSE(at::equal(PlanAnchor(e, bank, step, index).noise, first.noise)) << step << " " << index;
  }
  e.rollbacks = 1;
  EXPECT_TRUE(at::equal(PlanAnchor(e, bank, 0, 0).noise, first.noise)) << "the bank outlives a rollback";
  e.seed = 2;
  EXPECT_FALSE(at::equal(PlanAnchor(e, bank, 0, 0).noise, first.noise));
}

TEST(AnchorPlan, WithoutABankIsTheSamplesOwnNoiseAndPrompts) {
  TinyRun run(1, "[diversity]\nweight = 0.5\nnoise_bank = 0\n");
  const Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  for (const auto& [step, index] : {std::pair{0, 0}, {0, 1}, {7, 2}}) {
    const AnchorPlan anchor = PlanAnchor(e, bank, step, index);
    const SamplePlan sample = PlanSample(e, bank, step, index);
    EXPECT_TRUE(at::equal(anchor.noise, sample.noise));
    EXPECT_EQ(anchor.prompts, sample.prompts);
  }
}

TEST(SamplePlan, WithDiversityNeverExitsAtTheFirstStep) {
  TinyRun run(1, kDiversity);
  const Experiment with = run.experiment();
  Experiment without = with;
  without.diversity.weight = 0;
  const PromptBank bank = PromptBank::Open(with.model.prompts);
  std::vector<int> exits(4), exits_without(4);
  for (int step = 0; step < 60; ++step) {
    ++exits.at(PlanSample(with, bank, step, 0).exit_step);
    ++exits_without.at(PlanSample(without, bank, step, 0).exit_step);
    EXPECT_TRUE(at::equal(PlanSample(with, bank, step, 0).noise, PlanSample(without, bank, step, 0).noise));
  }
  EXPECT_EQ(exits[0], 0);
  for (int e = 1; e < 4; ++e) EXPECT_GT(exits[e], 0);
  for (const int count : exits_without) EXPECT_GT(count, 0);
}

TEST(Diversity, RolesCountItsWorkAndItFallsUnderItsOwnUpdates) {
  TinyRun run(1, kDiversity);
  Experiment e = run.experiment();
  e.optimizer.generator.learning_rate = 1e-5;
  Teacher teacher(e, at::kCPU);
  Generator generator(e, at::kCPU);
  const AnchorPlan plan = PlanAnchor(e, generator.bank(), 0, 0);
  const at::Tensor x_a = teacher.Anchor(plan.noise, plan.prompts);
  EXPECT_EQ(teacher.work().ForwardEquivalents(), 2 * 5 * 2);  // samples, steps, guidance
  const double first = generator.AccumulateDiversity(plan, x_a);
  EXPECT_EQ(generator.work().ForwardEquivalents(), 2 * 3);
  double last = 0;
  for (int i = 0; i < 5; ++i) {
    generator.Update();
    last = generator.AccumulateDiversity(plan, x_a);
  }
  EXPECT_LT(last, first);
}

}  // namespace
}  // namespace sgmd
