// One `up` or `replay`: the processes of a run from the first start to the last exit.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/config/topology.h"
#include "launch/console.h"
#include "launch/run_control.h"
#include "launch/supervisor.h"

namespace sgmd {

struct SessionOptions {
  bool replay = false;  // no teachers, the broker serves from the cache
  bool quiet = false;   // no process output on the console, progress only
};

/// The command lines of a run, by process name. `programs`: folder of the executables.
std::map<std::string, std::vector<std::string>> RunCommands(const LaunchPlan& plan, std::uint64_t epoch, bool replay,
                                                            const std::filesystem::path& programs);

/// Restarts teachers that die, starts the ring anew from the last checkpoint when a trained role asks for it (twice, then the
/// run fails), fails with the culprit's last lines when anything else does, drains on the first SIGINT or
/// SIGTERM, kills on the second.
class Session {
 public:
  Session(LaunchPlan plan, SessionOptions options, std::filesystem::path programs);
  /// Exit code: 0 finished or drained, 1 failed (or the culprit's own code), 130 killed by a second signal.
  int Run();

 private:
  using Clock = std::chrono::steady_clock;
  struct Restart {
    int count = 0;
    std::optional<Clock::time_point> due;
  };

  void Start(const std::string& name);
  void OnExit(const ExitReport& report);
  void OnEvaluatorExit(const ExitReport& report);
  void OnTeacherExit(const ExitReport& report);
  void StartDueTeachers();
  void ScaleTeachers(int count);
  void OnSignals();
  void TalkToBroker();
  bool ConnectToBroker();
  void RollBack();
  int Fail();
  int End();

  LaunchPlan plan_;
  SessionOptions options_;
  std::filesystem::path programs_;
  RunLock lock_;
  std::uint64_t epoch_;
  Console console_;
  Supervisor supervisor_;
  std::unique_ptr<Client> control_;
  Clock::time_point next_status_{};
  int teachers_wanted_ = 0;
  std::map<std::string, Restart> restarts_;
  std::set<std::string> retired_;      // teachers told to leave
  std::vector<ExitReport> failures_;
  std::optional<ExitReport> roll_back_;  // the trained role that asked for the last checkpoint
  std::optional<Clock::time_point> finished_;  // since when the run is over and the rest should go
  int signals_handled_ = 0;
};

}  // namespace sgmd
