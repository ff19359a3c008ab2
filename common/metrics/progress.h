// Progress of anything that takes more than a few seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/metrics/pace.h"

namespace sgmd {

/// "1m 05s", "2h 03m", "0.8s".
std::string FormatDuration(double seconds);

/// One status line with bar, ETA and rate, the latter two from the second update on. On a terminal it redraws in place
/// at most five times a second and fits its width; elsewhere it prints a line at most every `quiet_seconds`. Writes to
/// stderr.
class ProgressLine {
 public:
  ProgressLine(std::string title, std::int64_t total, double quiet_seconds = 10.0);
  ~ProgressLine();
  /// `done` of `total` finished; `detail` is shown behind, such as "loss 0.043".
  void Update(std::int64_t done, std::string_view detail = {});
  /// Ends the line. Called by the destructor if it was not called before.
  void Finish();

 private:
  void Print(std::string_view detail);
  std::string title_;
  std::int64_t total_, done_ = 0;
  Pace pace_;
  double quiet_seconds_;
  bool terminal_, finished_ = false;
  std::chrono::steady_clock::time_point last_print_{};
};

}  // namespace sgmd
