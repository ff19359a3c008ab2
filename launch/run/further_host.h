// One `up` on a host other than the broker's: joins the run when it is up, and leaves with it.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "common/config/topology.h"
#include "launch/run/console.h"
#include "launch/run/host_processes.h"
#include "launch/run/run_control.h"

namespace sgmd {

/// What moves it:
///
///   state     event                                     to
///   waiting   the broker of this epoch welcomes it      joined; this host's processes are started
///   joined    a teacher dies                            joined; its leases go to others, it is started again
///   joined    a trained role dies, or a teacher too     joined; the head is told, and starts the run anew or fails
///             often
///   joined    another epoch began, or the broker is     waiting; this host's processes are stopped
///             silent for silence_seconds
///   any       the head writes an outcome                ended; exit code of the run
///   joined    SIGTERM, or the first SIGINT              joined; the whole run drains
///   any       a second SIGINT, SIGQUIT                  ended; its processes are killed, exit code 130
///   waiting   SIGTERM or SIGINT                         the same
class FurtherHost {
 public:
  /// `options.host` is not the head. Throws Error when another process is this host of this run.
  FurtherHost(LaunchPlan plan, SessionOptions options, std::filesystem::path programs);
  int Run();

 private:
  using Clock = std::chrono::steady_clock;

  void Join();
  void Wait(const std::string& why);
  void TalkToBroker();
  void OnExit(const ExitReport& report);
  void OnSignals();
  void Lose(const std::string& why);
  void LeaveEndedRun();

  LaunchPlan plan_;
  SessionOptions options_;
  RunLock lock_;
  std::string earlier_outcome_;  // what was there before this start
  Console console_;
  HostProcesses processes_;
  std::unique_ptr<Client> control_;  // null: waiting
  std::uint64_t epoch_ = 0;          // of the run that it has joined
  Clock::time_point next_talk_{}, last_answer_{};
  std::string waiting_for_;  // what it said last about waiting
  int signals_handled_ = 0;
  std::optional<ExitReport> failed_;  // told with every poll until the head starts the run anew: one may be lost
  bool draining_ = false;             // as a signal asked
  std::optional<int> exit_code_;
};

}  // namespace sgmd
