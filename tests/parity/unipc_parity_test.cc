// Our UniPC against diffusers' UniPCMultistepScheduler (prediction_type flow_prediction, use_flow_sigmas).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/error/error.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/flow/unipc.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {
namespace {

struct Reference {
  explicit Reference(const std::string& name)
      : file(SafetensorsFile::Open(std::filesystem::path(SGMD_PARITY_DIR) / (name + ".safetensors"))) {}
  at::Tensor Get(const char* name) const { return CopyToTensor(file.At(name)); }
  at::Tensor Velocity(const at::Tensor& x, double t) const {
    return at::einsum("ij,bjfhw->bifhw", {Get("matrix"), x}) +
           (Get("offset") + t * Get("slope")).view({1, -1, 1, 1, 1});
  }
  SafetensorsFile file;
};

double RelativeError(const at::Tensor& ours, const at::Tensor& theirs) {
  return ((ours - theirs).abs().max() / theirs.abs().max()).to(at::kDouble).item<double>();
}

// Largest relative error over the whole trajectory.
double FollowReference(const Reference& reference, const StepGrid& grid, UniPc::Options options) {
  const at::Tensor trajectory = reference.Get("trajectory");
  UniPc solver(grid.sigmas, std::move(options));
  at::Tensor x = trajectory[0];
  double worst = 0;
  for (std::size_t i = 0; i < grid.timesteps.size(); ++i) {
    x = solver.Step(x, reference.Velocity(x, grid.timesteps[i]));
    worst = std::max(worst, RelativeError(x, trajectory[static_cast<std::int64_t>(i) + 1]));
  }
  return worst;
}

void ExpectSameGrid(const Reference& reference, const StepGrid& grid) {
  const at::Tensor sigmas = reference.Get("sigmas"), timesteps = reference.Get("timesteps");
  ASSERT_EQ(sigmas.numel(), static_cast<std::int64_t>(grid.sigmas.size()));
  ASSERT_EQ(timesteps.numel(), static_cast<std::int64_t>(grid.timesteps.size()));
  for (std::size_t i = 0; i < grid.sigmas.size(); ++i) EXPECT_EQ(sigmas[i].item<double>(), grid.sigmas[i]) << i;
  for (std::size_t i = 0; i < grid.timesteps.size(); ++i)
    EXPECT_EQ(timesteps[i].item<double>(), grid.timesteps[i]) << i;
}

TEST(UniPcParity, FollowsTheSchedulerStepByStep) {
  for (const double shift : {3.0, 5.0}) {
    for (const int steps : {1, 2, 3, 4, 10, 25, 50}) {
      for (const char* suffix : {"f32", "f64"}) {
        const std::string name = StrCat("shift", shift, "_steps", steps, "_", suffix);
        const Reference reference(name);
        const StepGrid grid = UniPcGrid(TimeGrid::kDiffusers, steps, shift);
        ExpectSameGrid(reference, grid);
        const double error = FollowReference(reference, grid, {});
        std::printf("%-24s %.2e\n", name.c_str(), error);
        EXPECT_LE(error, 1e-5) << name;
      }
    }
  }
}

TEST(UniPcParity, LeavesOutTheCorrectorWhereToldTo) {
  const Reference reference("uncorrected_start");
  EXPECT_LE(FollowReference(reference, UniPcGrid(TimeGrid::kDiffusers, 10, 5), {.order = 2, .uncorrected = {0, 1, 2}}),
            1e-5);
  EXPECT_GT(FollowReference(reference, UniPcGrid(TimeGrid::kDiffusers, 10, 5), {}), 1e-4) << "the setting must matter";
}

// The published way to run a 4-step student in diffusers (wan_facts §5 "Inference") is our Euler rollout, apart from
// its grid: its first sigma is 1 - 1e-6, and the others come from u = 1 - 0.24975 i where the student has 1 - 0.25 i.
TEST(UniPcParity, OrderOneWithoutCorrectorIsEuler) {
  const Reference reference("order1_uncorrected");
  const at::Tensor trajectory = reference.Get("trajectory");
  const StepGrid grid = UniPcGrid(TimeGrid::kDiffusers, 4, 5);
  EXPECT_LE(FollowReference(reference, grid, {.order = 1, .uncorrected = {0, 1, 2}}), 1e-5);
  at::Tensor x = trajectory[0];
  for (std::size_t i = 0; i < 4; ++i) {
    x = EulerStep(x, reference.Velocity(x, grid.timesteps[i]), grid.sigmas[i], grid.sigmas[i + 1]);
    EXPECT_LE(RelativeError(x, trajectory[static_cast<std::int64_t>(i) + 1]), 1e-5) << "step " << i;
  }
  const std::vector<double> student = StudentSigmas({1000, 750, 500, 250}, 5);
  for (int i = 0; i < 5; ++i) EXPECT_NEAR(student[i], grid.sigmas[i], 1e-3) << i;
}

}  // namespace
}  // namespace sgmd
