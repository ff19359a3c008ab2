// Sampling of a velocity model, with or without classifier-free guidance: along the velocity by Euler, or from clean
// estimates that are given new noise.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "pipeline/flow/guidance.h"
#include "pipeline/flow/velocity_model.h"

namespace sgmd {

/// Guided velocity u + w (c - u) (wan_facts §4 "CFG"), conditional and unconditional halves in one batch. x is
/// [B, C, F, H, W], sigma is [B]. w = 1 runs the conditional pass alone and does not look at `negative`, of which only
/// the text is read: the images are those of `condition`. Self-Forcing and the legacy FastVideo write c + w' (c - u):
/// their scale w' is this w less 1.
at::Tensor GuidedVelocity(const VelocityModel& model, const at::Tensor& x, const at::Tensor& sigma,
                          const Conditioning& condition, const Conditioning& negative, double guidance);

/// x + (s' - s) v, in the dtype of x.
at::Tensor EulerStep(const at::Tensor& x, const at::Tensor& velocity, double sigma, double next_sigma);

/// Integrates from `noise` (at sigmas.front()) to sigmas.back() without gradients. `on_step` is told how many steps are
/// done, from 1.
at::Tensor EulerSample(const VelocityModel& model, const at::Tensor& noise, const std::vector<double>& sigmas,
                       const Conditioning& condition, const Conditioning& negative, const Guidance& guidance,
                       const std::function<void(std::int64_t)>& on_step = {});

/// (1 - s') x0 + s' e with the clean estimate x0 = x - s v: the step of Self-Forcing and FastVideo (wan_facts §5 "SF
/// variant"). In the dtype of x; Self-Forcing computes x0 in float64. e, `noise`, is as x; where s' is 0 it is not
/// looked at and may be undefined.
at::Tensor RenoiseStep(const at::Tensor& x, const at::Tensor& velocity, double sigma, double next_sigma,
                       const at::Tensor& noise);

/// The new noise of a step of RenoiseSample, as its `noise`. `step`, from 1, is that of the noise level which is
/// reached.
using StepNoise = std::function<at::Tensor(std::int64_t step)>;

/// As EulerSample, by RenoiseStep. `step_noise` is asked once for each step that does not end at sigma 0, in order.
at::Tensor RenoiseSample(const VelocityModel& model, const at::Tensor& noise, const std::vector<double>& sigmas,
                         const StepNoise& step_noise, const Conditioning& condition, const Conditioning& negative,
                         const Guidance& guidance, const std::function<void(std::int64_t)>& on_step = {});

}  // namespace sgmd
