// Deterministic Euler sampling of a velocity model, with or without classifier-free guidance.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "pipeline/flow/velocity_model.h"

namespace sgmd {

/// Guided velocity u + w (c - u) (wan_facts §4 "CFG"), conditional and unconditional halves in one batch. x is
/// [B, C, F, H, W], sigma is [B]. w = 1 runs the conditional pass alone and does not look at `negative`. Self-Forcing
/// and the legacy FastVideo write c + w' (c - u): their scale w' is this w less 1.
at::Tensor GuidedVelocity(const VelocityModel& model, const at::Tensor& x, const at::Tensor& sigma,
                          const Conditioning& condition, const Conditioning& negative, double guidance);

/// x + (s' - s) v, in the dtype of x.
at::Tensor EulerStep(const at::Tensor& x, const at::Tensor& velocity, double sigma, double next_sigma);

/// Integrates from `noise` (at sigmas.front()) to sigmas.back() without gradients. `on_step` is told how many steps are
/// done, from 1.
at::Tensor EulerSample(const VelocityModel& model, const at::Tensor& noise, const std::vector<double>& sigmas,
                       const Conditioning& condition, const Conditioning& negative, double guidance,
                       const std::function<void(std::int64_t)>& on_step = {});

}  // namespace sgmd
