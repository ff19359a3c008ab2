// Trains the feature network that the Fréchet distance of the embedded model is measured on.
#pragma once

#include <cstdint>
#include <filesystem>

#include "pipeline/data/bouncing_balls.h"

namespace sgmd {

struct FeatureTrainingOptions {
  std::filesystem::path out;    // safetensors file to write
  std::int64_t steps = 4000;    // updates, >= 1
  std::int64_t batch = 128;     // videos per update, >= 1
  double learning_rate = 1e-3;  // peak; cosine decay to 0
  std::uint64_t seed = 1;
  bool force = false;  // replace a file that was trained with other settings
  BouncingBallsShape shape;
};

/// Trains MotionFeatures on procedural videos and writes the file, with its accuracy on 4096 unseen videos in the
/// metadata. Minutes; a function of the options. A file that was trained with the same options is left as it is; throws
/// Error when it was with others, unless `force`.
void TrainFeatures(const FeatureTrainingOptions& options);

}  // namespace sgmd
