#include "pipeline/flow/flow_matching.h"

#include <ATen/ATen.h>

#include "common/error/error.h"

namespace sgmd {

at::Tensor Broadcast(const at::Tensor& sigma, const at::Tensor& like) {
  std::vector<std::int64_t> shape(like.dim(), 1);
  shape[0] = sigma.size(0);
  return sigma.to(like.options()).view(shape);
}

at::Tensor AddNoise(const at::Tensor& x0, const at::Tensor& noise, const at::Tensor& sigma) {
  const at::Tensor s = Broadcast(sigma, x0);
  return (1 - s) * x0 + s * noise;
}

at::Tensor CleanFromVelocity(const at::Tensor& x, const at::Tensor& velocity, const at::Tensor& sigma) {
  return x - Broadcast(sigma, x) * velocity;
}

double Shift(double u, double m) { return m * u / (1 + (m - 1) * u); }

at::Tensor Shift(const at::Tensor& u, double m) { return m * u / (1 + (m - 1) * u); }

std::vector<double> StudentSigmas(const std::vector<std::int64_t>& steps, double shift) {
  std::vector<double> sigmas;
  for (const std::int64_t step : steps) sigmas.push_back(Shift(static_cast<double>(step) / 1000.0, shift));
  sigmas.push_back(0.0);
  return sigmas;
}

std::vector<double> UniformSigmas(std::int64_t steps, double shift) {
  std::vector<double> sigmas;
  for (std::int64_t i = 0; i <= steps; ++i) {
    sigmas.push_back(Shift(1.0 - static_cast<double>(i) / static_cast<double>(steps), shift));
  }
  return sigmas;
}

}  // namespace sgmd
