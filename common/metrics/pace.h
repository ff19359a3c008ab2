// How fast something goes on, and how a line about it fits a terminal.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace sgmd {

/// Seconds of one unit of work, from the first count that was told: what was done before (by an earlier start, or in a
/// first batch of unknown duration) is not counted, neither as work nor as time.
class Pace {
 public:
  using Clock = std::chrono::steady_clock;

  /// A count that falls begins anew.
  void Mark(double done, Clock::time_point now = Clock::now());
  /// Nothing before a second count.
  std::optional<double> SecondsEach() const;
  /// "4m 10s" until `total` is done; "-" before a second count.
  std::string Left(double total) const;

 private:
  double first_ = -1, last_ = -1;
  Clock::time_point first_time_{}, last_time_{};
};

/// Columns of the terminal that the file descriptor is; 0 when it is none or does not say.
int TerminalColumns(int fd);

/// `bar` and `rest` as one line that does not wrap in `columns`: without the bar, then cut, where it would. 0 columns:
/// all of it.
std::string FitLine(const std::string& bar, const std::string& rest, int columns);

}  // namespace sgmd
