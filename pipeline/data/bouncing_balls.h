// The procedural video data set: one soft ball that bounces in a box. Its size and colour are in the prompt; its speed,
// direction and place are not, so that keeping or losing motion is visible.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace sgmd {

struct BouncingBallsShape {
  std::int64_t frames = 8, height = 8, width = 8;
};

/// The eight prompts, "a small red ball" ... "a large yellow ball".
const std::vector<std::string>& BouncingBallPrompts();

struct BouncingBallBatch {
  at::Tensor video;                  // float32 [B, 3, F, H, W] in [-1, 1], black = -1
  std::vector<std::int64_t> prompt;  // [B] index into BouncingBallPrompts(): 4 size + colour
  at::Tensor speed;                  // float32 [B] px a frame
  at::Tensor velocity;               // float32 [B, 2] at the first frame: right, down; px a frame
  at::Tensor position;               // float32 [B, F, 2] of the centre: right, down; px
};

/// Radius (Gaussian sigma) 1.0 or 1.5 px; speed uniform in [0.05, 0.2] for one half of the videos and in [0.6, 0.9] px
/// a frame for the other; direction and place uniform; reflected at one pixel from the border. A pure function of the
/// arguments.
BouncingBallBatch DrawBouncingBalls(const BouncingBallsShape& shape, std::int64_t batch, std::uint64_t seed);

/// The same distribution, stratified: the prompts in turn, and in turn eight slow and eight fast ones, so that any
/// multiple of 16 videos holds every prompt equally often and is exactly half slow in each. What references are made
/// of.
BouncingBallBatch DrawBallsInTurn(const BouncingBallsShape& shape, std::int64_t batch, std::uint64_t seed);

}  // namespace sgmd
