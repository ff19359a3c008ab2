// What the evaluator does with a run, one committed checkpoint after another.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/config/topology.h"
#include "common/storage/checkpoint_store.h"

namespace sgmd {

/// Embedded RGB data is measured against data and teacher (RunEvaluation), videos of a model with latents are decoded
/// and shown beside the teacher's (PreviewEvaluation).
class CheckpointEvaluation {
 public:
  virtual ~CheckpointEvaluation() = default;

  virtual const Experiment& experiment() const = 0;
  virtual const CheckpointStore& checkpoints() const = 0;
  /// Behind each figure.
  virtual std::int64_t videos() const = 0;
  /// Whether the checkpoint of `step` is measured, on the student's own grid of steps.
  virtual bool Has(std::int64_t step) const = 0;
  /// Measures and records it. False when the run has deleted it meanwhile.
  virtual bool Evaluate(const CheckpointStore::Checkpoint& checkpoint) = 0;
  /// Why the run is not worth going on with, where the topology says when; empty: it is.
  virtual std::string WhyStop() const { return ""; }
};

/// Draws what students are compared with, which takes a while; what an earlier call left in the run folder is taken.
/// Throws Error when the topology does not say what is needed.
std::unique_ptr<CheckpointEvaluation> EvaluationOf(const LaunchPlan& plan);

}  // namespace sgmd
