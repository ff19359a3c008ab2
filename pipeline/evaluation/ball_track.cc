#include "pipeline/evaluation/ball_track.h"

#include <ATen/ATen.h>

namespace sgmd {
namespace {

constexpr double kFloor = 0.15;  // of full brightness

at::Tensor Length(const at::Tensor& vectors) { return vectors.square().sum(-1).sqrt(); }

}  // namespace

BallTrack TrackBalls(const at::Tensor& video) {
  const at::Tensor brightness = at::clamp_min(std::get<0>(((video + 1) / 2).max(1)) - kFloor, 0);  // [B, F, H, W]
  const at::Tensor mass = brightness.sum({2, 3});
  const at::Tensor safe = at::clamp_min(mass, 1e-6);
  const at::Tensor x = (brightness.sum(2) * at::arange(video.size(4), at::kFloat)).sum(2) / safe;
  const at::Tensor y = (brightness.sum(3) * at::arange(video.size(3), at::kFloat)).sum(2) / safe;
  const at::Tensor velocity = at::stack({x, y}, -1).diff(1, 1);
  return {Length(velocity).mean(1), Length(velocity.diff(1, 1)).mean(1), mass.mean(1)};
}

}  // namespace sgmd
