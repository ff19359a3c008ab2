// Features of a video that see shape, motion and sharpness, frame by frame: a small network trained to tell what is in
// procedural videos of a ball. What the Fréchet distance of the embedded model is measured on.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

#include "pipeline/data/bouncing_balls.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

/// A perceptron over the pixels of each frame, the same for all frames, and one over what it says of all frames, for
/// videos of one fixed shape. The features are the last hidden layer, before its activation, whitened: turned and
/// scaled so that over the videos given to Whiten each has mean 0 and variance 1 and no two are correlated. All that
/// the network tells then weighs alike in a Fréchet distance, place and sharpness of every frame; one of two sets of N
/// such videos is about kFeatures^2 / (2 N). Frames are told apart: a video and its reverse differ, and smeared last
/// frames show.
class MotionFeatures {
 public:
  static constexpr std::int64_t kFeatures = 24, kFrame = 96, kHidden = 256;

  /// Random weights from `seed`.
  MotionFeatures(const BouncingBallsShape& shape, std::uint64_t seed);
  /// From a file that Save wrote. Throws Error on anything else.
  static MotionFeatures Load(const std::filesystem::path& path);
  void Save(const std::filesystem::path& path, Metadata metadata = {}) const;

  /// float32 [B, kFeatures] of `video` [B, 3, F, H, W] in about [-1, 1]. Throws Error on another shape than the
  /// network's.
  at::Tensor Features(const at::Tensor& video) const;
  /// Makes the features white over `videos`, more than kFeatures of them. Once, after training.
  void Whiten(const at::Tensor& videos);
  /// The training loss on a batch: cross-entropy of size and colour; squared errors of the speed, of the velocity of
  /// the first and of the last frames (px a frame), of the ball's place in every frame (px), and of how much larger the
  /// light of each frame is than in `sharp`, the same videos before some frames were smeared (log of the area).
  /// Differentiable in the parameters.
  at::Tensor Loss(const BouncingBallBatch& batch, const at::Tensor& sharp) const;
  /// What the network says about videos: share of `batch` whose prompt it names, mean error of the speed (px a frame).
  struct Accuracy {
    double prompt = 0, speed_error = 0;
  };
  Accuracy Test(const BouncingBallBatch& batch) const;

  /// What is trained.
  const NamedTensors& parameters() const { return parameters_; }

 private:
  at::Tensor Hidden(const at::Tensor& video) const;  // [B, kFeatures], not whitened
  at::Tensor Heads(const at::Tensor& video) const;   // [B, outputs]
  NamedTensors All() const;

  BouncingBallsShape shape_;
  NamedTensors parameters_;
  at::Tensor whitening_, centre_;  // features = (hidden - centre) whitening
};

}  // namespace sgmd
