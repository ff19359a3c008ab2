#include "nodes/evaluator/watch.h"

#include <chrono>
#include <thread>

#include "common/log/log.h"
#include "nodes/evaluator/run_evaluation.h"

namespace sgmd {
namespace {

// Finished or drained: the generator writes the student last, the launcher the epoch first.
bool RunHasEnded(const RunFolder& run) {
  std::error_code missing;
  const auto student = std::filesystem::last_write_time(run.Student(), missing);
  const auto epoch = std::filesystem::last_write_time(run.Start(), missing);
  return !missing && std::filesystem::exists(run.Student()) && student > epoch;
}

// Whether there was something new.
bool EvaluateNewest(RunEvaluation& evaluation) {
  const StudentSteps& grid = evaluation.experiment().schedule.student_steps;
  const auto checkpoint = evaluation.checkpoints().Newest();
  return checkpoint && !evaluation.Has(checkpoint->step, grid) && evaluation.Measure(*checkpoint, grid);
}

}  // namespace

void WatchRun(const LaunchPlan& plan, const volatile std::sig_atomic_t& stop) {
  RunEvaluation evaluation(plan, SettingsOf(plan.topology));
  LogInfo("watching for checkpoints, ", evaluation.settings().samples, " videos each");
  while (!stop) {
    const bool ended = RunHasEnded({plan.topology.run.folder});
    if (EvaluateNewest(evaluation)) continue;
    if (ended) return;  // and everything that was committed before is done
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
}

}  // namespace sgmd
