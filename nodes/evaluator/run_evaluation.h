// The students of one run, measured from its files: one checkpoint on one grid of steps at a time.
#pragma once

#include <set>
#include <tuple>
#include <vector>

#include "common/metrics/event_writer.h"
#include "nodes/evaluator/checkpoint_evaluation.h"
#include "nodes/evaluator/checkpoint_student.h"
#include "nodes/evaluator/reference.h"

namespace sgmd {

using StudentSteps = std::vector<std::int64_t>;  // timesteps before the shift, descending

/// Writes, in the run folder:
///   evaluation/metrics.jsonl               one JSON object a measurement: step, samples, student_steps, guidance, the
///                                          Measures with <name>_low and <name>_high, frechet_teacher_floor
///   evaluation/videos/step-<8 digits>.gif  teacher | student, same noise and prompts (the experiment's grid)
///   events/evaluator                       the same scalars as evaluation/<name>, and the GIF (likewise)
class RunEvaluation : public CheckpointEvaluation {
 public:
  RunEvaluation(const LaunchPlan& plan, const EvaluationSettings& settings);

  const Experiment& experiment() const override { return plan_.experiment; }
  const CheckpointStore& checkpoints() const override { return checkpoints_; }
  std::int64_t videos() const override { return reference_.settings().samples; }
  bool Has(std::int64_t step) const override { return Has(step, own_grid()); }
  bool Evaluate(const CheckpointStore::Checkpoint& checkpoint) override {
    return Measure(checkpoint, own_grid()).has_value();
  }

  const std::vector<std::string>& prompts() const { return reference_.prompts(); }

  /// Whether metrics.jsonl has this, with as many videos.
  bool Has(std::int64_t step, const StudentSteps& grid) const;
  /// Draws from the checkpoint's weights (the EMA if there is one), measures and records. Nothing, when the run has
  /// deleted the checkpoint meanwhile.
  std::optional<Arm> Measure(const CheckpointStore::Checkpoint& checkpoint, const StudentSteps& grid);

 private:
  const StudentSteps& own_grid() const { return experiment().schedule.student_steps; }
  void Record(std::int64_t step, const StudentSteps& grid, const Arm& arm);
  void Publish(std::int64_t step, const Measures& measures, const Arm& arm);

  LaunchPlan plan_;
  std::filesystem::path folder_;
  Reference reference_;
  CheckpointStudent student_;
  EventWriter events_;
  CheckpointStore checkpoints_;
  std::set<std::tuple<std::int64_t, StudentSteps, std::int64_t>> done_;  // step, grid, samples
};

}  // namespace sgmd
