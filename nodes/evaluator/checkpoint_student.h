// The student of a run as its checkpoints have it.
#pragma once

#include <filesystem>

#include "common/config/experiment.h"
#include "pipeline/models/wan_experts.h"

namespace sgmd {

class CheckpointStudent {
 public:
  /// As it was before it was trained: the weights of [model] student, of both experts where they are two.
  explicit CheckpointStudent(const Experiment& experiment, at::Device device = at::kCPU, WanPrecision precision = {});

  /// Takes the weights of a checkpoint, the average if there is one, of what is trained. False when the run has deleted
  /// it meanwhile.
  bool Load(const std::filesystem::path& checkpoint);

  const WanExperts& model() const { return model_; }

 private:
  WanExperts Untrained(const Experiment& experiment, at::Device device, WanPrecision precision);

  bool averaged_;
  NamedTensors trained_;  // under their names in checkpoints, sharing storage with the model
  WanExperts model_;
};

}  // namespace sgmd
