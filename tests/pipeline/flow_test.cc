#include <ATen/ATen.h>
#include <gtest/gtest.h>

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

TEST(EulerStep, IntegratesAConstantVelocityExactly) {
  const at::Tensor x = Noise({1, 1, 1, 1, 4}, 1), v = Noise({1, 1, 1, 1, 4}, 2);
  const at::Tensor half = EulerStep(EulerStep(x, v, 1.0, 0.5), v, 0.5, 0.0);
  EXPECT_TRUE(at::allclose(half, x - v, 1e-5, 1e-6));
}

}  // namespace
}  // namespace sgmd
