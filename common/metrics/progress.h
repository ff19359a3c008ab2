// Progress of anything that takes more than a few seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace sgmd {

/// "1m 05s", "2h 03m", "0.8s".
std::string FormatDuration(double seconds);

/// One status line with bar, rate and ETA. On a terminal it redraws in place at most five times a second; elsewhere it
/// prints a line at most every `quiet_seconds`. Writes to stderr.
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
  std::int64_t total_, done_ = 0, first_done_ = -1;
  double quiet_seconds_;
  bool terminal_, finished_ = false;
  std::chrono::steady_clock::time_point start_, last_print_{};
};

}  // namespace sgmd
