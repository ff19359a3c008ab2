#include "nodes/evaluator/checkpoint_evaluation.h"

#include "nodes/evaluator/preview_evaluation.h"
#include "nodes/evaluator/run_evaluation.h"

namespace sgmd {

std::unique_ptr<CheckpointEvaluation> EvaluationOf(const LaunchPlan& plan) {
  const Topology& topology = plan.topology;
  if (LatentsArePixels(plan.experiment)) return std::make_unique<RunEvaluation>(plan, SettingsOf(topology));
  return std::make_unique<PreviewEvaluation>(plan, topology.evaluator);
}

}  // namespace sgmd
