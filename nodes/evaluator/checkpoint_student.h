// The student of a run as its checkpoints have it.
#pragma once

#include <filesystem>

#include "common/config/experiment.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {

class CheckpointStudent {
 public:
  /// As it was before it was trained: the weights of [model] student.
  explicit CheckpointStudent(const Experiment& experiment, at::Device device = at::kCPU, WanPrecision precision = {});

  /// Takes the weights of a checkpoint, the average if there is one. False when the run has deleted it meanwhile.
  bool Load(const std::filesystem::path& checkpoint);

  const WanTransformer& model() const { return model_; }

 private:
  bool averaged_;
  WanTransformer model_;
};

}  // namespace sgmd
