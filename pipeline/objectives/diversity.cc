#include "pipeline/objectives/diversity.h"

#include <ATen/ATen.h>

#include "pipeline/flow/flow_matching.h"

namespace sgmd {

std::vector<double> AnchorSigmas(std::int64_t steps, std::int64_t grid, double shift) {
  std::vector<double> sigmas = UniformSigmas(grid, shift);
  sigmas.resize(steps + 1);
  return sigmas;
}

at::Tensor AnchorTarget(const at::Tensor& noise, const at::Tensor& x_a, double sigma_a) {
  return (noise - x_a) / (1 - sigma_a);
}

at::Tensor DiversityLoss(const VelocityModel& student, const at::Tensor& noise, const at::Tensor& target,
                         const Conditioning& condition, double weight) {
  const at::Tensor sigma = at::ones({noise.size(0)}, noise.options());
  return weight * at::mse_loss(student.Forward(noise, sigma, condition), target);
}

}  // namespace sgmd
