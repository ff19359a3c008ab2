#include "nodes/evaluator/watch.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/evaluator/checkpoint_evaluation.h"

namespace sgmd {
namespace {

void Pause() { std::this_thread::sleep_for(std::chrono::milliseconds(500)); }

// Finished or drained: the generator writes the student last, the launcher the epoch first.
bool RunHasEnded(const RunFolder& run) {
  std::error_code missing;
  const auto student = std::filesystem::last_write_time(run.Student(), missing);
  const auto epoch = std::filesystem::last_write_time(run.Start(), missing);
  return !missing && std::filesystem::exists(run.Student()) && student > epoch;
}

// The checkpoints that are there, oldest first. One that is being deleted cannot be read; a moment later it is gone.
std::vector<CheckpointStore::Checkpoint> Kept(const CheckpointStore& store) {
  constexpr int kTries = 20;
  for (int attempt = 1; attempt < kTries; ++attempt, Pause()) {
    try {
      return store.All();
    } catch (const Error&) {
    }
  }
  return store.All();
}

class Watcher {
 public:
  explicit Watcher(const LaunchPlan& plan)
      : evaluation_(EvaluationOf(plan)), folder_(RunFolder{plan.topology.run.folder}.Checkpoints()) {
    LogInfo("watching for checkpoints, ", evaluation_->videos(), " videos each");
  }

  // Measures the oldest checkpoint that is there and was not measured yet; false when there is none. Whole checkpoints
  // are digested to be found, so that they are looked for only after something has changed.
  bool EvaluateNext() {
    const auto changed = std::filesystem::last_write_time(folder_);
    if (changed == nothing_new_since_) return false;
    const auto kept = Kept(evaluation_->checkpoints());
    TellSkipped(kept);
    for (const auto& checkpoint : kept) {
      if (!evaluation_->Has(checkpoint.step) && evaluation_->Evaluate(checkpoint)) return true;
    }
    nothing_new_since_ = changed;
    return false;
  }

  // The launcher drains the run, as `sgmd-launch down` has it do.
  void EndRunIfWanted() {
    if (ending_ || evaluation_->WhyStop().empty()) return;
    ending_ = true;
    LogWarning("the run is drained, as [evaluator] stop_when says: ", evaluation_->WhyStop());
    if (const pid_t launcher = ::getppid(); launcher > 1) ::kill(launcher, SIGTERM);
  }

 private:
  // Says once of each checkpoint that it was deleted before its turn came.
  void TellSkipped(const std::vector<CheckpointStore::Checkpoint>& kept) {
    if (kept.empty()) return;
    const Experiment& e = evaluation_->experiment();
    std::string steps;
    for (std::int64_t step = told_ + e.checkpoint.every; step < kept.front().step; step += e.checkpoint.every) {
      told_ = step;
      if (!evaluation_->Has(step)) steps += StrCat(steps.empty() ? "" : ", ", step);
    }
    if (steps.empty()) return;
    LogWarning("not evaluated: the checkpoints of steps ", steps, ", which the run deleted before their turn came; it ",
               "keeps ", e.checkpoint.keep, " ([checkpoint] keep), and fewer videos ([evaluator]) take less time");
  }

  std::unique_ptr<CheckpointEvaluation> evaluation_;
  std::filesystem::path folder_;
  std::filesystem::file_time_type nothing_new_since_ = std::filesystem::file_time_type::min();
  std::int64_t told_ = 0;  // the steps up to here
  bool ending_ = false;
};

}  // namespace

void WatchRun(const LaunchPlan& plan, const std::atomic<bool>& stop) {
  Watcher watcher(plan);
  while (!stop) {
    const bool ended = RunHasEnded({plan.topology.run.folder});
    const bool evaluated = watcher.EvaluateNext();
    if (!ended) watcher.EndRunIfWanted();
    if (evaluated) continue;
    if (ended) return;  // and everything that was committed before is done
    Pause();
  }
}

}  // namespace sgmd
