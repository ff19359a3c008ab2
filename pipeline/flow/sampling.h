// Deterministic Euler sampling of a velocity model, with or without classifier-free guidance.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "pipeline/models/wan_transformer.h"

namespace sgmd {

/// Guided velocity u + w (c - u) (wan_facts §4 "CFG"), conditional and unconditional halves in one batch. x [B, C, F,
/// H, W], sigma [B], context and null_context [B, text_len, text_dim]. w = 1 runs the conditional pass only.
at::Tensor GuidedVelocity(const WanTransformer& model, const at::Tensor& x, const at::Tensor& sigma,
                          const at::Tensor& context, const at::Tensor& null_context, double guidance);

/// x + (s' - s) v, in the dtype of x.
at::Tensor EulerStep(const at::Tensor& x, const at::Tensor& velocity, double sigma, double next_sigma);

/// Integrates from `noise` (sigma = sigmas[0]) to sigmas.back() without gradients. `on_step` is told 1-based how many
/// steps are done.
at::Tensor EulerSample(const WanTransformer& model, const at::Tensor& noise, const std::vector<double>& sigmas,
                       const at::Tensor& context, const at::Tensor& null_context, double guidance,
                       const std::function<void(std::int64_t)>& on_step = {});

}  // namespace sgmd
