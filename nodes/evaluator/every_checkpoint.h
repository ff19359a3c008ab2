// Evaluation after training: every checkpoint that a run kept, and what its students are to be compared with.
#pragma once

#include "common/config/topology.h"
#include "nodes/evaluator/run_evaluation.h"

namespace sgmd {

/// Measures every whole checkpoint on the experiment's grid, and the last one on each of `fewer` too, whose videos are
/// also drawn as evaluation/videos/student-<steps>.png and .gif. What metrics.jsonl already has is not done again.
/// Throws Error when the run kept no checkpoint. Shows progress.
void EvaluateEveryCheckpoint(const LaunchPlan& plan, const EvaluationSettings& settings,
                             const std::vector<StudentSteps>& fewer);

/// Measures what no training changes; the run folder needs resolved/ only. Writes evaluation/baselines.jsonl, one JSON
/// object each: arm, evaluations (of the network, a video), samples, the Measures; and pictures as above under these
/// names:
///   data            another draw of the data: the floor of distances to the data
///   teacher         the reference itself
///   teacher-again   the many-step teacher from the noise of all others: the floor
///   teacher-<n>     the teacher with guidance on the experiment's grid of n steps
///   base-<n>        the untrained student (teacher's weights, no guidance) on the experiment's grid, and on `fewer`
void EvaluateBaselines(const LaunchPlan& plan, const EvaluationSettings& settings,
                       const std::vector<StudentSteps>& fewer);

}  // namespace sgmd
