#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/unipc.h"

namespace sgmd {
namespace {

// wan_facts §4: both conventions at 50 steps and shift 5.
TEST(UniPcGrid, TellsTheNetworkThePublishedTimesteps) {
  const StepGrid wan = UniPcGrid(TimeGrid::kWan, 50, 5), diffusers = UniPcGrid(TimeGrid::kDiffusers, 50, 5);
  ASSERT_EQ(wan.timesteps.size(), 50U);
  EXPECT_EQ(std::vector<double>(wan.timesteps.begin(), wan.timesteps.begin() + 3),
            (std::vector<double>{999, 995, 991}));
  EXPECT_EQ(std::vector<double>(wan.timesteps.end() - 2, wan.timesteps.end()), (std::vector<double>{172, 92}));
  EXPECT_EQ(std::vector<double>(diffusers.timesteps.begin(), diffusers.timesteps.begin() + 2),
            (std::vector<double>{999, 995}));
  EXPECT_EQ(std::vector<double>(diffusers.timesteps.end() - 2, diffusers.timesteps.end()),
            (std::vector<double>{175, 96}));
  EXPECT_EQ(wan.sigmas.back(), 0);
}

// The flow that takes N(0, 1) to N(2, 0.25): x_s = 2 (1 - s) + sd(s) z with sd(s)^2 = (0.5 (1 - s))^2 + s^2 has a known
// velocity and a known end, 2 + 0.5 z. Half the steps must cost more than four times the error: the order is 2 or
// higher.
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
