// The checkpoints of a model with latents: a few decoded videos of each beside the teacher's, and how they move.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/metrics/event_writer.h"
#include "nodes/evaluator/checkpoint_evaluation.h"
#include "nodes/evaluator/checkpoint_student.h"
#include "nodes/evaluator/collapse_watch.h"
#include "nodes/evaluator/preview_comparison.h"

namespace sgmd {

/// Writes, in the run folder:
///   evaluation/metrics.jsonl              one JSON object a checkpoint: step, samples, student_steps, guidance, and
///                                         the PreviewMeasures with <name>_low and <name>_high; step 0 is the student
///                                         before its first update
///   evaluation/videos/step-<8 digits>...  as PreviewComparison::Compare writes them
///   evaluation/videos/prompts.txt         the prompts, a line each
///   events/evaluator                      the scalars as evaluation/<name>, and the picture
/// Logs a warning for what a CollapseWatch says, and wants the run to stop at what [evaluator] stop_when names.
class PreviewEvaluation : public CheckpointEvaluation {
 public:
  /// Draws the teacher's videos and measures the untrained student, unless the run folder has them. Throws Error as
  /// PreviewSet does.
  PreviewEvaluation(const LaunchPlan& plan, const Topology::Evaluator& settings);

  const Experiment& experiment() const override { return plan_.experiment; }
  const CheckpointStore& checkpoints() const override { return checkpoints_; }
  std::int64_t videos() const override { return static_cast<std::int64_t>(comparison_.set().prompts().size()); }
  bool Has(std::int64_t step) const override { return done_.contains(step); }
  bool Evaluate(const CheckpointStore::Checkpoint& checkpoint) override;
  std::string WhyStop() const override { return why_stop_; }

 private:
  void ReadMetrics();
  void Measure(std::int64_t step);
  void Record(std::int64_t step, const Measures& measures);

  LaunchPlan plan_;
  std::filesystem::path folder_;
  PreviewComparison comparison_;
  CheckpointStudent student_;  // loaded when the teacher is gone
  EventWriter events_;
  CheckpointStore checkpoints_;
  CollapseWatch watch_;
  std::set<std::int64_t> done_;         // steps
  std::vector<std::string> stop_when_;  // signs
  std::string why_stop_;
};

}  // namespace sgmd
