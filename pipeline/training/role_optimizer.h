// What updates a trained role's network: AdamW of each of its parts, and their averages.
#pragma once

#include <cstdint>
#include <vector>

#include "common/config/experiment.h"
#include "pipeline/training/adamw.h"
#include "pipeline/training/trained_model.h"

namespace sgmd {

/// Of two experts each has its moments, its count of updates and its norm, as if it were trained by itself. One that no
/// sample of an iteration was for stays as it is, average included.
class RoleOptimizer {
 public:
  /// `model` outlives it. `ema_decay`: of the averages; 0: none.
  RoleOptimizer(TrainedModel& model, const OptimizerConfig& config, Kernels kernels, double ema_decay = 0);

  /// AdamW::Step of each part that was used. The norm is that of all of them together; skipped: one of them was.
  AdamW::StepReport Step();

  /// Of all parts; counters are called "<prefix>adamw.steps", "<prefix>ema.updates".
  NamedTensors State() const;
  void LoadState(const StateLoader& load);
  bool averages() const { return !averages_.empty(); }
  NamedTensors AverageState() const;
  void LoadAverageState(const StateLoader& load);

  /// What is exported: the average where there is one, else what is trained, as TrainedModel::trained().
  NamedTensors Best() const;
  /// Updates of the part whose tensors have this prefix.
  std::int64_t StepsOf(const std::string& prefix) const;

 private:
  TrainedModel& model_;
  std::vector<TrainedPart> parts_;
  std::vector<AdamW> optimizers_;  // one a part
  std::vector<Ema> averages_;      // one a part, or none
};

}  // namespace sgmd
