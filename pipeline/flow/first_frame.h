// The two ways in which models are given a first frame (wan_facts §1.3 "I2V in brief"): beside the latents, under a
// mask (Wan2.1-I2V, Wan2.2-I2V-A14B), or in their place, without noise (Wan2.2-TI2V-5B).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sgmd {

/// Channels of the mask: the frames of pixels behind a latent frame.
inline constexpr std::int64_t kFirstFrameMaskChannels = 4;

/// What a model is told beside its latents: the channels [B, 4 + C, F, H, W] of `latents` [B, C, F, H, W], those of the
/// picture and of grey frames behind it: a mask that is 1 where a frame is given, which is the first, then the latents.
/// In their dtype.
at::Tensor FirstFrameCondition(const at::Tensor& latents);

/// Noised latents `x` [B, C, F, H, W] with `first` [B, C, 1, H, W], the latents of the picture, in the place of their
/// first frame.
at::Tensor WithFirstFrame(const at::Tensor& x, const at::Tensor& first);

/// The `velocity` [B, C, F, H, W] that a model found at `x` and `sigma` [B], with another one in the first frame, that
/// which leads from `x` to `first`: x - sigma velocity is the picture there. So whoever draws, scores or trains with
/// velocities holds the picture without knowing of it. Differentiable; sigma 0 is taken for 1e-6.
at::Tensor LeadingTo(const at::Tensor& first, const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& velocity);

}  // namespace sgmd
