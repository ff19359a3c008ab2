// How far a recorded run can be replayed.
#pragma once

#include <cstdint>
#include <filesystem>

#include "common/config/topology.h"

namespace sgmd {

/// Asks the broker's program what the cache holds of the run in `plan`'s folder, whose settings are written there.
/// Returns the step at which the record ends, as that of a drained run does; 0 where it goes to the last step, or where
/// the cache is from before records of steps were kept, so that only trying tells. Throws Error when answers are
/// missing before the end of the record, saying how many, from which step, and whether they were evicted or lost; or
/// when the cache cannot be read.
std::int64_t EndOfRecord(const LaunchPlan& plan, const std::filesystem::path& programs);

}  // namespace sgmd
