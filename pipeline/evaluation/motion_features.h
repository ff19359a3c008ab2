// Features of a video that see shape and motion: a small network trained to name size, colour, speed and direction of
// the procedural balls. What the Fréchet distance of the embedded model is measured on.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

#include "pipeline/data/bouncing_balls.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

/// A perceptron with two hidden layers over all pixels of a video of one fixed shape; the features are its last hidden
/// layer.
class MotionFeatures {
 public:
  static constexpr std::int64_t kFeatures = 64, kHidden = 256;

  /// Random weights from `seed`.
  MotionFeatures(const BouncingBallsShape& shape, std::uint64_t seed);
  /// From a file that Save wrote. Throws Error on anything else.
  static MotionFeatures Load(const std::filesystem::path& path);
  void Save(const std::filesystem::path& path, Metadata metadata = {}) const;

  /// float32 [B, kFeatures] of `video` [B, 3, F, H, W] in about [-1, 1]. Throws Error on another shape than the
  /// network's.
  at::Tensor Features(const at::Tensor& video) const;
  /// The training loss on a batch: cross-entropy of size and colour, squared errors of speed (px a frame) and of the
  /// velocity of the first frames. Differentiable in the parameters.
  at::Tensor Loss(const BouncingBallBatch& batch) const;
  /// What the network says about videos: share of `batch` whose prompt it names, mean error of the speed (px a frame).
  struct Accuracy {
    double prompt = 0, speed_error = 0;
  };
  Accuracy Test(const BouncingBallBatch& batch) const;

  const NamedTensors& parameters() const { return parameters_; }

 private:
  at::Tensor Heads(const at::Tensor& features) const;  // [B, 2 + 4 + 1 + 2]

  BouncingBallsShape shape_;
  NamedTensors parameters_;
};

}  // namespace sgmd
