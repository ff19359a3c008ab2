// When a step may roll out: the one rule that decides strict or pipelined.
#pragma once

#include <cstdint>

namespace sgmd {

/// Step k is rolled out with the student after k - staleness updates (after all earlier ones while k < staleness):
///
///   admitted(k)  <=>  k <= landed + max_staleness
///
/// where `landed` counts the updates that are done. max_staleness = 0 (strict): every gradient is taken with the
/// student that it updates; = 1: the rollout of k + 1 fills the time in which the scores and gradients of k are on
/// their way.
struct Admission {
  std::int64_t max_staleness = 0;

  bool Admits(std::int64_t step, std::int64_t landed) const { return step <= landed + max_staleness; }
};

}  // namespace sgmd
