#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "pipeline/data/sample_plan.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/models/wan_transformer.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

// wan_facts §5 "Steps".
TEST(StudentSigmas, AreThePublishedGrid) {
  const std::vector<double> sigmas = StudentSigmas({1000, 750, 500, 250}, 5);
  const double expected[] = {1, 0.9375, 5.0 / 6, 0.625, 0};
  ASSERT_EQ(sigmas.size(), 5U);
  for (int i = 0; i < 5; ++i) EXPECT_NEAR(sigmas[i], expected[i], 1e-12);
  EXPECT_NEAR(StudentSigmas({750}, 7)[0], 0.9545, 1e-4);
}

TEST(FlowMatching, CleanFromTrueVelocityIsTheCleanSample) {
  const at::Tensor x0 = Noise({2, 3, 2, 2, 2}, 1), e = Noise({2, 3, 2, 2, 2}, 2), sigma = at::tensor({0.2F, 0.9F});
  EXPECT_TRUE(at::allclose(CleanFromVelocity(AddNoise(x0, e, sigma), e - x0, sigma), x0, 1e-5, 1e-6));
}

TEST(SamplePlan, StaysInRangeAndVisitsEveryExit) {
  TinyRun run(1);
  const Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  std::vector<int> exits(4);
  for (int step = 0; step < 60; ++step) {
    const SamplePlan plan = PlanSample(e, bank, step, 0);
    ++exits.at(plan.exit_step);
    EXPECT_GE(plan.score_sigma.min().item<float>(), 0.02F);
    EXPECT_LE(plan.score_sigma.max().item<float>(), 0.98F);
    EXPECT_EQ(plan.noise.sizes(), (std::vector<std::int64_t>{2, 3, 4, 4, 4}));
  }
  for (const int count : exits) EXPECT_GT(count, 0);
}

TEST(SamplePlan, ExitsAsOftenAsItsWeightsSay) {
  TinyRun run(1);
  Experiment e = run.experiment();
  e.schedule.exit_weights = {0, 1, 0, 3};
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  std::vector<int> exits(4);
  for (int step = 0; step < 400; ++step) ++exits.at(PlanSample(e, bank, step, 0).exit_step);
  EXPECT_EQ(exits[0] + exits[2], 0);
  EXPECT_NEAR(exits[1], 100, 40);  // 4.6 standard deviations
}

TEST(SamplePlan, ExitsOncePerStepWhereTheScheduleSaysSo) {
  TinyRun run(1);
  Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  std::set<std::int64_t> exits, mixed;
  for (int step = 0; step < 40; ++step) {
    e.schedule.exit = ExitDraw::kStep;
    const std::int64_t exit = PlanSample(e, bank, step, 0).exit_step;
    const std::int64_t fresh = PlanFreshSample(e, bank, step, 0, 1).exit_step;
    exits.insert(exit);
    for (int index = 1; index < 3; ++index) {
      EXPECT_EQ(PlanSample(e, bank, step, index).exit_step, exit);
      EXPECT_EQ(PlanFreshSample(e, bank, step, index, 1).exit_step, fresh);
    }
    const at::Tensor noise = PlanSample(e, bank, step, 2).noise;
    e.schedule.exit = ExitDraw::kMicroBatch;
    EXPECT_TRUE(at::equal(PlanSample(e, bank, step, 2).noise, noise)) << "nothing else changes";
    if (PlanSample(e, bank, step, 2).exit_step != exit) mixed.insert(step);
  }
  EXPECT_EQ(exits.size(), 4U);
  EXPECT_GT(mixed.size(), 10U);
}

// The bank has 8 prompts, a step takes 6 of them.
TEST(SamplePlan, InEpochsTakesEveryPromptOnceBeforeAnyComesAgain) {
  TinyRun run(1);
  Experiment e = run.experiment();
  e.data.prompt_order = PromptOrder::kEpochs;
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  ASSERT_EQ(bank.prompts().size(), 8U);
  const auto epochs = [&](auto plan) {
    std::vector<std::vector<Digest>> orders(1);
    for (int step = 0; step < 12; ++step) {
      for (int index = 0; index < 3; ++index) {
        for (const Digest& prompt : plan(step, index).prompts) {
          if (orders.back().size() == 8) orders.emplace_back();
          orders.back().push_back(prompt);
        }
      }
    }
    return orders;
  };
  const auto samples = epochs([&](int step, int index) { return PlanSample(e, bank, step, index); });
  const auto fresh = epochs([&](int step, int index) { return PlanFreshSample(e, bank, step, index, 0); });
  ASSERT_EQ(samples.size(), 9U);
  for (std::size_t n = 0; n < 9; ++n) {
    EXPECT_TRUE(std::is_permutation(samples[n].begin(), samples[n].end(), bank.prompts().begin())) << n;
    EXPECT_TRUE(std::is_permutation(fresh[n].begin(), fresh[n].end(), bank.prompts().begin())) << n;
    EXPECT_TRUE(n == 0 || samples[n] != samples[n - 1]) << n;
  }
  EXPECT_NE(samples, fresh);
  e.rollbacks = 1;
  EXPECT_EQ(epochs([&](int step, int index) { return PlanSample(e, bank, step, index); }), samples);
  e.seed = 2;
  EXPECT_NE(epochs([&](int step, int index) { return PlanSample(e, bank, step, index); }), samples);
}

TEST(SamplePlan, AStepRunAgainAfterARollbackDrawsAnew) {
  TinyRun run(4);
  Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  const at::Tensor first = PlanSample(e, bank, 3, 1).noise, inner = PlanInner(e, 3, 1, 0).noise;
  e.rollbacks = 1;
  EXPECT_FALSE(at::equal(PlanSample(e, bank, 3, 1).noise, first));
  EXPECT_FALSE(at::equal(PlanInner(e, 3, 1, 0).noise, inner));
  EXPECT_TRUE(at::equal(PlanSample(e, bank, 3, 1).noise, PlanSample(e, bank, 3, 1).noise));
}

TEST(SamplePlan, HasNewNoiseForEachStepBeforeTheExitWhereTheRolloutTakesIt) {
  TinyRun run(1);
  Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  std::set<double> sums;  // of every noise that is drawn: none comes twice
  std::size_t drawn = 0;
  for (int step = 0; step < 8; ++step) {
    e.schedule.rollout = RolloutForm::kEuler;
    const SamplePlan euler = PlanSample(e, bank, step, 1);
    EXPECT_TRUE(euler.step_noise.empty());
    e.schedule.rollout = RolloutForm::kRenoise;
    for (const SamplePlan& plan : {PlanSample(e, bank, step, 1), PlanFreshSample(e, bank, step, 1, 0)}) {
      ASSERT_EQ(plan.step_noise.size(), static_cast<std::size_t>(plan.exit_step));
      std::vector<at::Tensor> noises = plan.step_noise;
      noises.insert(noises.end(), {plan.noise, plan.score_noise});
      for (const at::Tensor& noise : noises) {
        EXPECT_EQ(noise.sizes(), plan.noise.sizes());
        sums.insert(noise.sum().item<double>());
      }
      drawn += noises.size();
    }
    const SamplePlan plan = PlanSample(e, bank, step, 1);
    EXPECT_TRUE(at::equal(plan.noise, euler.noise)) << "nothing else changes";
    EXPECT_EQ(plan.exit_step, euler.exit_step);
    for (std::size_t i = 0; i < plan.step_noise.size(); ++i)
      EXPECT_TRUE(at::equal(plan.step_noise[i], PlanSample(e, bank, step, 1).step_noise[i]));
  }
  EXPECT_EQ(sums.size(), drawn);
}

TEST(SamplePlan, NewNoiseIsAnotherOneAfterARollback) {
  TinyRun run(1, "[schedule]\nrollout = \"renoise\"\nexit_weights = [0, 0, 0, 1]\n");
  Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  const SamplePlan first = PlanSample(e, bank, 3, 1);
  e.rollbacks = 1;
  EXPECT_FALSE(at::equal(PlanSample(e, bank, 3, 1).step_noise.at(2), first.step_noise.at(2)));
}

TEST(Guidance, IsUnconditionalPlusScaledDifference) {
  TempFolder folder;
  WriteTinyModel(folder.path());
  const WanTransformer model = WanTransformer::Load(folder.path(), at::kCPU);
  const at::Tensor x = Noise({2, 3, 4, 4, 4}, 1), sigma = at::tensor({0.5F, 0.7F});
  const at::Tensor c = Noise({2, 8, 8}, 2), u = at::zeros({2, 8, 8});
  const at::Tensor vc = model.Forward(x, sigma, {c}), vu = model.Forward(x, sigma, {u});
  EXPECT_TRUE(at::allclose(GuidedVelocity(model, x, sigma, {c}, {u}, 2.5), vu + 2.5 * (vc - vu), 1e-4, 1e-5));
  EXPECT_TRUE(at::equal(GuidedVelocity(model, x, sigma, {c}, {u}, 1.0), vc));
}

// Over the published grid: every step by the formula, the last one without noise.
TEST(RenoiseSample, TakesEachCleanEstimateToTheNextLevelWithNewNoise) {
  TempFolder folder;
  WriteTinyModel(folder.path());
  const WanTransformer model = WanTransformer::Load(folder.path(), at::kCPU);
  const std::vector<double> sigmas = StudentSigmas({1000, 750, 500, 250}, 5);
  const at::Tensor noise = Noise({2, 3, 4, 4, 4}, 1), context = Noise({2, 8, 8}, 2);
  std::vector<std::int64_t> asked, told;
  const auto fresh = [&](std::int64_t step) {
    asked.push_back(step);
    return Noise(noise.sizes(), 10 + step);
  };
  const at::Tensor found =
      RenoiseSample(model, noise, sigmas, fresh, {context}, {}, 1.0, [&](std::int64_t done) { told.push_back(done); });
  EXPECT_EQ(asked, (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(told, (std::vector<std::int64_t>{1, 2, 3, 4}));
  at::Tensor x = noise;
  for (int i = 0; i < 4; ++i) {
    const at::Tensor x0 =
        CleanFromVelocity(x, model.Forward(x, at::full({2}, sigmas[i]), {context}), at::full({2}, sigmas[i]));
    x = i == 3 ? x0 : AddNoise(x0, Noise(noise.sizes(), 11 + i), at::full({2}, sigmas[i + 1]));
  }
  EXPECT_TRUE(at::allclose(found, x, 1e-5, 1e-6));
  EXPECT_FALSE(at::allclose(found, EulerSample(model, noise, sigmas, {context}, {}, 1.0), 1e-2, 1e-2));
}

// With the true velocity x0 is exact, whatever the noise.
TEST(RenoiseStep, KeepsTheCleanSample) {
  const at::Tensor x0 = Noise({1, 1, 1, 1, 4}, 1), e = Noise({1, 1, 1, 1, 4}, 2), fresh = Noise({1, 1, 1, 1, 4}, 3);
  const at::Tensor x = 0.25 * x0 + 0.75 * e, v = e - x0;
  EXPECT_TRUE(at::allclose(RenoiseStep(x, v, 0.75, 0.5, fresh), 0.5 * x0 + 0.5 * fresh, 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(RenoiseStep(x, v, 0.75, 0, {}), x0, 1e-5, 1e-6));
}

TEST(EulerStep, IntegratesAConstantVelocityExactly) {
  const at::Tensor x = Noise({1, 1, 1, 1, 4}, 1), v = Noise({1, 1, 1, 1, 4}, 2);
  const at::Tensor half = EulerStep(EulerStep(x, v, 1.0, 0.5), v, 0.5, 0.0);
  EXPECT_TRUE(at::allclose(half, x - v, 1e-5, 1e-6));
}

}  // namespace
}  // namespace sgmd
