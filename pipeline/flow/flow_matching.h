// Flow matching with velocity prediction (wan_facts §4): x_s = (1 - s) x0 + s e, v = e - x0, x0 = x_s - s v.
// `sigma` is [B], float32, in [0, 1]; tensors are [B, ...]; sigma is broadcast over the rest.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace sgmd {

/// sigma [B] shaped [B, 1, 1, ...] to broadcast against `like`.
at::Tensor Broadcast(const at::Tensor& sigma, const at::Tensor& like);

/// x_s = (1 - s) x0 + s e.
at::Tensor AddNoise(const at::Tensor& x0, const at::Tensor& noise, const at::Tensor& sigma);

/// x0 = x_s - s v.
at::Tensor CleanFromVelocity(const at::Tensor& x, const at::Tensor& velocity, const at::Tensor& sigma);

/// S_m(u) = m u / (1 + (m - 1) u).
double Shift(double u, double m);
at::Tensor Shift(const at::Tensor& u, double m);

/// The student's grid: sigma_i for each entry of `steps` (timesteps before the shift, descending, in (0, 1000]), then
/// 0. sigma = S_shift(step / 1000): [1000, 750, 500, 250] at shift 5 gives 1, 0.9375, 0.8333, 0.625, 0 (wan_facts §5).
std::vector<double> StudentSigmas(const std::vector<std::int64_t>& steps, double shift);

/// A uniform grid of `steps` intervals, shifted: S_shift(linspace(1, 0, steps + 1)).
std::vector<double> UniformSigmas(std::int64_t steps, double shift);

}  // namespace sgmd
