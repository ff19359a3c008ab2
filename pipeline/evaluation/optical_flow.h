// How much moves in a video, without knowing what is in it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sgmd {

struct FlowSummary {
  at::Tensor magnitude;    // float32 [B] mean flow of the moving content, px a frame of the given video
  at::Tensor consistency;  // float32 [B] in [0, 1]: 1 - mean |frame warped along the flow - next frame| / contrast
};

/// Dense optical flow (Farneback, OpenCV) between neighbouring frames of `video` float32 [B, 3, F, H, W] in about [-1,
/// 1], F >= 2, on frames enlarged `enlarge` times (small latents need it; 1 for decoded videos). Pixels are weighted by
/// their distance from the frame's median grey, so that an empty background neither counts nor dilutes. `contrast` is
/// the mean weight: a warp that explains nothing of the content gives 0.
FlowSummary OpticalFlow(const at::Tensor& video, std::int64_t enlarge);

}  // namespace sgmd
