// When a step may roll out: the one rule that decides strict or pipelined.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace sgmd {

/// Step k is rolled out with the student after k - staleness updates (after all earlier ones where that is less):
///
///   admitted(k)  <=>  k <= landed + max_staleness, and no pause p lies in landed < p <= k
///
/// where `landed` counts the updates that are done. max_staleness = 0 (strict): every gradient is taken with the
/// student that it updates; = N: rollouts of N further steps fill the time in which scores and gradients are on their
/// way. Before a pause all earlier steps are done: at every checkpoint, and where the run was drained (PausesOf). So a
/// run that goes on from any of these rolls out with the same students as one that was never interrupted.
struct Admission {
  std::int64_t max_staleness = 0;
  std::int64_t checkpoint_every = 1;
  std::vector<std::int64_t> drained;  // steps

  bool Admits(std::int64_t step, std::int64_t landed) const {
    if (step > landed + max_staleness || step / checkpoint_every > landed / checkpoint_every) return false;
    return std::ranges::none_of(drained, [&](std::int64_t pause) { return landed < pause && pause <= step; });
  }
};

}  // namespace sgmd
