// What the person at the terminal sees: prefixed output of every process, and one progress line below it.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "common/metrics/pace.h"
#include "launch/run/log_file.h"

namespace sgmd {

class Console {
 public:
  /// `quiet` hides process output. Colours and redrawing only on a terminal, and not with NO_COLOR. What cannot be
  /// shown, as on a terminal that is gone, is dropped; what the launcher says also goes to `log`, if there is one.
  explicit Console(bool quiet, const std::filesystem::path& log = {});
  ~Console();

  /// A line of a process, with its coloured name before it.
  void ProcessLine(const std::string& name, const std::string& line);
  /// A line of the launcher itself.
  void Say(std::string_view line);
  /// The broker's status JSON as a progress line: redrawn on a terminal in one row, at most every ten
  /// seconds elsewhere. Before it what the run waits for, if it does, when that changes and at most every ten seconds.
  void Progress(const std::string& status_json);

 private:
  void AppendToLog(std::string_view line);
  void SayWaiting(const std::string& waiting_for);
  void Print(const std::string& line);

  bool quiet_, terminal_, colour_;
  std::unique_ptr<LogFile> log_;
  std::string progress_;
  std::chrono::steady_clock::time_point last_progress_{};
  Pace pace_;
  std::string waiting_for_;  // what it said last of that
  std::chrono::steady_clock::time_point last_waiting_{};
};

/// The name of a process before a line of it, in its colour.
std::string ProcessPrefix(const std::string& name, bool colour);

}  // namespace sgmd
