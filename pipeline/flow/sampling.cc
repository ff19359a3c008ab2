#include "pipeline/flow/sampling.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace sgmd {
namespace {

// x at sigmas.back(), by `step` from (x, velocity, number of the interval).
at::Tensor Walk(const VelocityModel& model, const at::Tensor& noise, const std::vector<double>& sigmas,
                const Conditioning& condition, const Conditioning& negative, const Guidance& guidance,
                const std::function<void(std::int64_t)>& on_step, const auto& step) {
  c10::NoGradGuard no_grad;
  at::Tensor x = noise;
  for (std::size_t i = 0; i + 1 < sigmas.size(); ++i) {
    const at::Tensor sigma = at::full({x.size(0)}, sigmas[i], x.options());
    x = step(x, GuidedVelocity(model, x, sigma, condition, negative, guidance.At(sigmas[i])), i);
    if (on_step) on_step(static_cast<std::int64_t>(i) + 1);
  }
  return x;
}

}  // namespace

at::Tensor GuidedVelocity(const VelocityModel& model, const at::Tensor& x, const at::Tensor& sigma,
                          const Conditioning& condition, const Conditioning& negative, double guidance) {
  if (guidance == 1.0) return model.Forward(x, sigma, condition);
  const Conditioning pair = Concatenate(condition, negative.WithImageOf(condition));
  const auto both = model.Forward(at::cat({x, x}), at::cat({sigma, sigma}), pair).chunk(2);
  return both[1] + guidance * (both[0] - both[1]);
}

at::Tensor EulerStep(const at::Tensor& x, const at::Tensor& velocity, double sigma, double next_sigma) {
  return x + (next_sigma - sigma) * velocity;
}

at::Tensor RenoiseStep(const at::Tensor& x, const at::Tensor& velocity, double sigma, double next_sigma,
                       const at::Tensor& noise) {
  const at::Tensor clean = x - sigma * velocity;
  return next_sigma == 0 ? clean : (1 - next_sigma) * clean + next_sigma * noise;
}

at::Tensor EulerSample(const VelocityModel& model, const at::Tensor& noise, const std::vector<double>& sigmas,
                       const Conditioning& condition, const Conditioning& negative, const Guidance& guidance,
                       const std::function<void(std::int64_t)>& on_step) {
  const auto euler = [&](const at::Tensor& x, const at::Tensor& velocity, std::size_t i) {
    return EulerStep(x, velocity, sigmas[i], sigmas[i + 1]);
  };
  return Walk(model, noise, sigmas, condition, negative, guidance, on_step, euler);
}

at::Tensor RenoiseSample(const VelocityModel& model, const at::Tensor& noise, const std::vector<double>& sigmas,
                         const StepNoise& step_noise, const Conditioning& condition, const Conditioning& negative,
                         const Guidance& guidance, const std::function<void(std::int64_t)>& on_step) {
  const auto renoise = [&](const at::Tensor& x, const at::Tensor& velocity, std::size_t i) {
    const double next = sigmas[i + 1];
    const at::Tensor fresh = next == 0 ? at::Tensor() : step_noise(static_cast<std::int64_t>(i) + 1);
    return RenoiseStep(x, velocity, sigmas[i], next, fresh);
  };
  return Walk(model, noise, sigmas, condition, negative, guidance, on_step, renoise);
}

}  // namespace sgmd
