#include "pipeline/flow/sampling.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace sgmd {

at::Tensor GuidedVelocity(const VelocityModel& model, const at::Tensor& x, const at::Tensor& sigma,
                          const Conditioning& condition, const Conditioning& negative, double guidance) {
  if (guidance == 1.0) return model.Forward(x, sigma, condition);
  const auto both = model.Forward(at::cat({x, x}), at::cat({sigma, sigma}), Concatenate(condition, negative)).chunk(2);
  return both[1] + guidance * (both[0] - both[1]);
}

at::Tensor EulerStep(const at::Tensor& x, const at::Tensor& velocity, double sigma, double next_sigma) {
  return x + (next_sigma - sigma) * velocity;
}

at::Tensor EulerSample(const VelocityModel& model, const at::Tensor& noise, const std::vector<double>& sigmas,
                       const Conditioning& condition, const Conditioning& negative, double guidance,
                       const std::function<void(std::int64_t)>& on_step) {
  c10::NoGradGuard no_grad;
  at::Tensor x = noise;
  for (std::size_t i = 0; i + 1 < sigmas.size(); ++i) {
    const at::Tensor sigma = at::full({x.size(0)}, sigmas[i], x.options());
    x = EulerStep(x, GuidedVelocity(model, x, sigma, condition, negative, guidance), sigmas[i], sigmas[i + 1]);
    if (on_step) on_step(static_cast<std::int64_t>(i) + 1);
  }
  return x;
}

}  // namespace sgmd
