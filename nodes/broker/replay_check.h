// Whether a recorded run can be replayed, before it is tried.
#pragma once

#include <string>

#include "common/config/topology.h"

namespace sgmd {

/// What the cache holds of an experiment, as a JSON object:
///   "answers"   how many the experiment needs in all: micro-batches, times two with the diversity loss
///   "there"     how many of them are there
///   "evicted", "lost"   how many were recorded and are not there
///   "complete"  how many leading steps have all their answers
///   "recorded"  how many steps, the last of them counted, have any score
///   "rollbacks" how often the recorded run went back to a checkpoint; the answers of all its parts are taken together
/// Throws Error when the cache cannot be read. The cache may be in use.
std::string ReplayCheckText(const LaunchPlan& plan);

}  // namespace sgmd
