// Time in which this process ran.
#pragma once

#include <algorithm>
#include <chrono>

namespace sgmd {

/// Seconds that this process has been watching. A loop calls Tick in every round; of a round that took longer than
/// `kLongestRound`, such as one in which the process was stopped or the machine slept, only that much counts. So a
/// process that wakes up takes nobody for silent before it has listened.
class AwakeClock {
 public:
  using Source = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kLongestRound{1};

  void Tick(Source::time_point now = Source::now()) {
    if (last_ != Source::time_point()) awake_ += std::min<Source::duration>(now - last_, kLongestRound);
    last_ = now;
  }
  /// As of the last Tick.
  double Seconds() const { return std::chrono::duration<double>(awake_).count(); }

 private:
  Source::time_point last_{};
  Source::duration awake_{0};
};

}  // namespace sgmd
