// How often a process may end before its run ends, and how long to wait before it is started again.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "common/config/topology.h"

namespace sgmd {

/// As [restart] says, of each process by itself: ends of the last window_seconds count. The pause doubles with each
/// of them, from first_delay_seconds to longest_delay_seconds.
class RestartBudget {
 public:
  using Clock = std::chrono::steady_clock;
  struct Attempt {
    int number = 0;  // 1 to [restart] attempts
    std::chrono::milliseconds delay{};
  };

  explicit RestartBudget(const Topology::Restart& settings) : settings_(settings) {}
  /// Counts an end of `process`. Nothing when it has ended more often than `attempts` within the window.
  std::optional<Attempt> OnEnd(const std::string& process, Clock::time_point now = Clock::now());

 private:
  Topology::Restart settings_;
  std::map<std::string, std::deque<Clock::time_point>> ends_;  // those that count
};

}  // namespace sgmd
