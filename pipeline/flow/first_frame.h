// What a model for image-to-video is told of the first frame beside its latents (wan_facts §1.3 "I2V in brief").
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sgmd {

/// Channels of the mask: the frames of pixels behind a latent frame.
inline constexpr std::int64_t kFirstFrameMaskChannels = 4;

/// The condition [4 + C, F, H, W] of `latents` [C, F, H, W], those of the picture and of grey frames behind it: a mask
/// that is 1 where a frame is given, which is the first, then the latents. In their dtype.
at::Tensor FirstFrameCondition(const at::Tensor& latents);

}  // namespace sgmd
