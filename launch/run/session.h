// One `up` or `replay` on the host of the broker: the processes of a run from the first start to the last exit.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/config/topology.h"
#include "launch/run/console.h"
#include "launch/run/host_processes.h"
#include "launch/run/run_control.h"

namespace sgmd {

/// Restarts teachers that die, starts the ring anew from the last checkpoint when a trained role asks for it (twice,
/// then the run fails), fails with the culprit's last lines when anything else does, on whichever host; drains on the
/// first SIGINT or SIGTERM, kills on the second.
class Session {
 public:
  /// Takes the run folder, makes the run's keys if it is encrypted, and writes the resolved settings.
  Session(LaunchPlan plan, SessionOptions options, std::filesystem::path programs);
  /// Exit code: 0 finished or drained, 1 failed (or the culprit's own code), 130 killed by a second signal. Where there
  /// are other hosts, the run folder's outcome tells them.
  int Run();

 private:
  using Clock = std::chrono::steady_clock;

  int Supervise();
  void OnExit(const ExitReport& report);
  void OnTeacherExit(const ExitReport& report);
  void OnSignals();
  void TalkToBroker();
  bool ConnectToBroker();
  void OnMessage(const Envelope& message);
  void RollBack();
  int Fail();
  int End();

  LaunchPlan plan_;
  RunLock lock_;
  std::uint64_t epoch_;
  Console console_;
  HostProcesses processes_;
  std::unique_ptr<Client> control_;
  Clock::time_point next_status_{};
  std::vector<ExitReport> failures_;
  std::optional<ExitReport> roll_back_;        // the trained role that asked for the last checkpoint
  std::optional<Clock::time_point> finished_;  // since when the run is over and the rest should go
  int signals_handled_ = 0;
};

}  // namespace sgmd
