#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sample_plan.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/flow/unipc.h"
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

TEST(Randomness, IsAFunctionOfSeedStepIndexAndPurpose) {
  EXPECT_TRUE(at::equal(Noise({5}, SeedFor(1, 2, 3, "a")), Noise({5}, SeedFor(1, 2, 3, "a"))));
  const std::uint64_t seed = SeedFor(1, 2, 3, "a");
  EXPECT_NE(seed, SeedFor(2, 2, 3, "a"));
  EXPECT_NE(seed, SeedFor(1, 3, 3, "a"));
  EXPECT_NE(seed, SeedFor(1, 2, 4, "a"));
  EXPECT_NE(seed, SeedFor(1, 2, 3, "b"));
}

TEST(SamplePlan, StaysInRangeAndVisitsEveryExit) {
  TinyRun run(1);
  const Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.prompts);
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

TEST(SamplePlan, AStepRunAgainAfterARollbackDrawsAnew) {
  TinyRun run(4);
  Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.prompts);
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
  const at::Tensor vc = model.Forward(x, sigma, c), vu = model.Forward(x, sigma, u);
  EXPECT_TRUE(at::allclose(GuidedVelocity(model, x, sigma, c, u, 2.5), vu + 2.5 * (vc - vu), 1e-4, 1e-5));
  EXPECT_TRUE(at::equal(GuidedVelocity(model, x, sigma, c, u, 1.0), vc));
}

TEST(EulerStep, IntegratesAConstantVelocityExactly) {
  const at::Tensor x = Noise({1, 1, 1, 1, 4}, 1), v = Noise({1, 1, 1, 1, 4}, 2);
  const at::Tensor half = EulerStep(EulerStep(x, v, 1.0, 0.5), v, 0.5, 0.0);
  EXPECT_TRUE(at::allclose(half, x - v, 1e-5, 1e-6));
}

// wan_facts §4: both conventions at 50 steps and shift 5.
TEST(UniPcGrid, TellsTheNetworkThePublishedTimesteps) {
  const StepGrid wan = UniPcGrid(TimeGrid::kWan, 50, 5), diffusers = UniPcGrid(TimeGrid::kDiffusers, 50, 5);
  ASSERT_EQ(wan.timesteps.size(), 50U);
  EXPECT_EQ(std::vector<double>(wan.timesteps.begin(), wan.timesteps.begin() + 3), (std::vector<double>{999, 995, 991}));
  EXPECT_EQ(std::vector<double>(wan.timesteps.end() - 2, wan.timesteps.end()), (std::vector<double>{172, 92}));
  EXPECT_EQ(std::vector<double>(diffusers.timesteps.begin(), diffusers.timesteps.begin() + 2), (std::vector<double>{999, 995}));
  EXPECT_EQ(std::vector<double>(diffusers.timesteps.end() - 2, diffusers.timesteps.end()), (std::vector<double>{175, 96}));
  EXPECT_EQ(wan.sigmas.back(), 0);
}

// The flow that takes N(0, 1) to N(2, 0.25): x_s = 2 (1 - s) + sd(s) z with sd(s)^2 = (0.5 (1 - s))^2 + s^2 has a known velocity
// and a known end, 2 + 0.5 z. Half the steps must cost more than four times the error: the order is 2 or higher.
double UniPcError(std::int64_t steps) {
  const at::Tensor z = Noise({64}, 1).to(at::kDouble);
  const StepGrid grid = UniPcGrid(TimeGrid::kDiffusers, steps, 3);
  UniPc solver(grid.sigmas);
  at::Tensor x = z;
  for (std::int64_t i = 0; i < steps; ++i) {
    const double s = grid.sigmas[i], variance = 0.25 * (1 - s) * (1 - s) + s * s;
    x = solver.Step(x, -2 + (s - 0.25 * (1 - s)) / variance * (x - 2 * (1 - s)));
  }
  EXPECT_THROW(solver.Step(x, x), Error);
  return (x - (2 + 0.5 * z)).abs().max().item<double>();
}

TEST(UniPc, ConvergesWithItsOrder) {
  const double coarse = UniPcError(20), fine = UniPcError(40);
  EXPECT_LT(coarse, 0.05);
  EXPECT_LT(fine, coarse / 4);
}

TEST(UniPc, RefusesSigmasThatDoNotFallToZero) {
  EXPECT_THROW(UniPc({1, 0.5}), Error);
  EXPECT_THROW(UniPc({0.5, 0.5, 0}), Error);
  EXPECT_THROW(UniPc({1, 0}, {.order = 3, .uncorrected = {}}), Error);
}

}  // namespace
}  // namespace sgmd
