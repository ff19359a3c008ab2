// Evaluation while training goes on: every committed checkpoint, from files alone.
#pragma once

#include <csignal>
#include <cstdint>

#include "common/config/topology.h"

namespace sgmd {

/// Evaluates the student (EMA weights if there are any) of each new checkpoint, newest first. Ends by itself when this
/// start of the run has (its student is written) and the last checkpoint is evaluated, or on `stop`. Reads only files
/// that are committed, so training neither waits for it nor knows of it; checkpoints that come faster than they can be
/// evaluated are passed over. Writes what RunEvaluation does; steps that metrics.jsonl already has are not done again.
/// The reference is kept in evaluation/teacher.safetensors.
void WatchRun(const LaunchPlan& plan, const volatile std::sig_atomic_t& stop);

}  // namespace sgmd
