// Starts, watches and stops the processes of a run. One thread, one poll loop; no process outlives it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launch/run/log_file.h"

namespace sgmd {

/// How a process ended.
struct ExitReport {
  std::string name;
  int code = 0;                         // exit code, or 128 + signal
  int signal = 0;                       // 0: it exited by itself
  std::vector<std::string> last_lines;  // of its output, at most 20, and before them its last error where it is older

  /// "exit code 1" or "signal 9 (Killed)".
  std::string Reason() const;
  /// The last error that it reported, without time and level; Reason() when it reported none.
  std::string Cause() const;
  /// "exit code 1: no such file", or the reason alone.
  std::string Summary() const;
};

/// Each child has its own process group, dies with this process whatever kills it (PDEATHSIG), and writes stdout and
/// stderr into a pipe that is copied to `<logs>/<name>.log` and, line by line, to `on_line`.
class Supervisor {
 public:
  using LineHandler = std::function<void(const std::string& name, const std::string& line)>;

  Supervisor(std::filesystem::path logs, LineHandler on_line);
  /// Kills what still runs.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;

  /// Starts `command` (path, arguments...) with `env` over this process' own environment. Throws Error when it cannot
  /// be executed or the name is in use.
  void Start(const std::string& name, const std::vector<std::string>& command,
             const std::map<std::string, std::string>& env = {});
  /// Waits until output, an exit or a signal arrives, at most `timeout`; handles all of them. Returns the processes
  /// that ended. `extra_fd` (or -1) wakes it too.
  std::vector<ExitReport> Poll(std::chrono::milliseconds timeout, int extra_fd = -1);
  /// Sends `signal` to the process group of `name`, or of every process. Unknown names are ignored.
  void Signal(const std::string& name, int signal);
  void SignalAll(int signal);
  /// SIGINT to all, then SIGKILL to what is left after `grace`. Output is still handled.
  void StopAll(std::chrono::milliseconds grace);

  bool Running(const std::string& name) const { return children_.contains(name); }
  std::vector<std::string> Names() const;

 private:
  struct Child {
    pid_t pid = -1;
    int pidfd = -1, output = -1;
    std::unique_ptr<LogFile> log;
    std::string partial;
    std::deque<std::string> last_lines;
    std::string last_error;  // the line
  };
  void ReadOutput(const std::string& name, Child& child);
  std::optional<ExitReport> Reap(const std::string& name, Child& child);

  std::filesystem::path logs_;
  LineHandler on_line_;
  std::map<std::string, Child> children_;
};

}  // namespace sgmd
