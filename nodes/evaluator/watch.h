// Evaluation while training goes on: the committed checkpoints, from files alone.
#pragma once

#include <atomic>
#include <cstdint>

#include "common/config/topology.h"

namespace sgmd {

/// Evaluates the student (EMA weights if there are any) of each new checkpoint, in order. Ends by itself when this
/// start of the run has (its student is written) and every checkpoint that is left is evaluated, or on `stop`. Reads
/// only files that are committed, so training neither waits for it nor knows of it, except that the launcher, whose
/// child this is, is asked to drain a run that [evaluator] stop_when gives up. A checkpoint that the run deletes
/// before its turn comes ([checkpoint] keep) is lost to it: a warning names its step. The oldest first loses the
/// fewest: it is the next to be deleted, and the newest are still there when the run has ended. Writes what
/// RunEvaluation does; steps that metrics.jsonl already has are not done again. The reference is kept in
/// evaluation/teacher.safetensors.
void WatchRun(const LaunchPlan& plan, const std::atomic<bool>& stop);

}  // namespace sgmd
