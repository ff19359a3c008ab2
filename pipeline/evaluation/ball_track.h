// The exact object track of the procedural videos: where the ball is, how fast, how whole.
#pragma once

#include <ATen/core/Tensor.h>

namespace sgmd {

struct BallTrack {
  at::Tensor speed;   // [B] mean distance between frames, px a frame
  at::Tensor jitter;  // [B] mean length of the second difference of the position, px a frame squared
  at::Tensor mass;    // [B] mean over frames of the summed brightness above the floor
};

/// `video` float32 [B, 3, F, H, W] in about [-1, 1], black = -1; F >= 3. The position is the brightness-weighted
/// centroid of what is brighter than 15 % in its brightest channel.
BallTrack TrackBalls(const at::Tensor& video);

inline constexpr double kFastSpeed = 0.4;  // between the data's slow (to 0.2) and fast (from 0.6) balls

}  // namespace sgmd
