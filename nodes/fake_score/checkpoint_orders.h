// Which checkpoints the fake score has been ordered to stage, and what it said of those that it has.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "common/messages/life.h"

namespace sgmd {

/// An order may come again, also after its step is over: the parts are said again.
class CheckpointOrders {
 public:
  using Parts = std::vector<message::CheckpointPart>;

  /// An order for `step` comes after `done` inner loops. Returns what was said of the step before, empty where nothing
  /// was. Throws Error when it is too late: the state of that step is gone, and nothing was said of it.
  Parts OnOrder(std::int64_t step, std::int64_t done);
  /// Whether `step` is to be staged; no longer afterwards.
  bool Take(std::int64_t step) { return ordered_.erase(step) > 0; }
  /// What is said of a step that was taken.
  void Remember(Parts parts);

 private:
  std::set<std::int64_t> ordered_;
  std::map<std::int64_t, Parts> said_;  // of the newest steps
};

}  // namespace sgmd
