// UniPC for flow matching (wan_facts §4 "Teacher sampler"): the multistep solver that Wan teachers are sampled with.
// Order 2, B(h) of kind bh2, prediction of x0, corrector on, order 1 at the first and the last step.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <set>
#include <string_view>
#include <vector>

namespace sgmd {

/// Where a sampler evaluates the network.
struct StepGrid {
  std::vector<double> sigmas;     // N + 1, falling, the last one 0: what is integrated over
  std::vector<double> timesteps;  // N, in (0, 1000]: what the network is told
};

/// The two published conventions. Both shift a uniform grid, both tell the network a truncated integer timestep, and
/// both keep sigmas in float32 (near sigma = 1 that decides the value of log(1 - sigma), and so the weights of the
/// second step).
///   kWan:       u = linspace(0.999, 0, N + 1)[:-1]   the original repositories
///   kDiffusers: u = linspace(1, 0.001, N + 1)[:-1], the first sigma 1 - 1e-6   `use_flow_sigmas`
enum class TimeGrid { kWan, kDiffusers };

/// "wan" or "diffusers"; Error otherwise.
TimeGrid TimeGridFromName(std::string_view name);

/// `steps` >= 1, `shift` > 0: sigma = shift u / (1 + (shift - 1) u).
StepGrid UniPcGrid(TimeGrid convention, std::int64_t steps, double shift);

/// A grid for solvers that take the timestep as it is, such as the student's: timesteps = 1000 sigmas.
StepGrid ExactGrid(std::vector<double> sigmas);

/// One trajectory. Fed with velocities, so that the caller owns the network, guidance and all else. Coefficients are
/// computed in float64 and applied in the dtype of the sample (float32 or float64).
class UniPc {
 public:
  struct Options {
    int order = 2;                       // 1 or 2
    std::set<std::int64_t> uncorrected;  // steps whose result is not corrected afterwards
  };

  /// `sigmas` as in StepGrid. Throws Error unless they fall to 0 from at most 1.
  explicit UniPc(std::vector<double> sigmas) : UniPc(std::move(sigmas), Options()) {}
  UniPc(std::vector<double> sigmas, Options options);

  /// The sample at the next sigma, from `x` at the current one, as the last Step returned it (the noise at first), and
  /// the velocity there. Order 1 without corrector is Euler's method. Throws Error when called more than N times.
  at::Tensor Step(const at::Tensor& x, const at::Tensor& velocity);

  std::int64_t steps() const { return static_cast<std::int64_t>(sigmas_.size()) - 1; }
  std::int64_t done() const { return step_; }

 private:
  at::Tensor Correct(const at::Tensor& clean) const;         // x at sigma[step_], anew with the estimate there
  at::Tensor Predict(const at::Tensor& x, int order) const;  // x at sigma[step_ + 1]
  double Ratio(std::size_t from, std::size_t to) const;      // r of wan_facts §4 for the interval from -> to

  std::vector<double> sigmas_;
  Options options_;
  std::int64_t step_ = 0;
  int last_order_ = 0;
  at::Tensor sample_;        // at sigma[step_ - 1], corrected
  at::Tensor clean_, past_;  // m0 and m_-1: the newest estimate of x0 and the one before
};

}  // namespace sgmd
