// One `up` or `replay` on the host of the broker: the processes of a run from the first start to the last exit.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/config/topology.h"
#include "launch/run/console.h"
#include "launch/run/host_processes.h"
#include "launch/run/restart_budget.h"
#include "launch/run/run_control.h"

namespace sgmd {

/// What moves it, on whichever host it happens:
///
///   state       event                                      to
///   running     a teacher dies                             running; it is started again after a pause
///   running     a trained role asks for the last           going back
///               checkpoint, at most twice in a run
///   going back  -                                          running, as the next start of the run, whose processes are
///                                                          all new; if it was draining it drains again
///   running     anything else dies, a teacher too often,   failing
///               or a trained role asks a third time
///   running     the broker has not answered for            running; that process is killed (HostProcesses::EndHung),
///               silence_seconds, or says of a process      and so dies
///               three times in a row that it hangs
///   failing     500 ms are over, and it is the end of a    recovering; all processes are stopped
///               generator, fake score or broker that
///               [restart] allows; where it was no signal,
///               also a step of it was done (HasProgressed)
///   recovering  the pause is over                          running, as the next start of the run; if it was draining
///                                                          it drains again
///   failing     the same, not allowed: others that         ended; exit code 1, the last lines of the culprit are
///               the failure drags down are gathered        shown
///   running     SIGTERM, or the first SIGINT               running; the broker drains the run, as soon as it answers
///   running     a process ends in order: the broker has    finishing
///               closed the run
///   finishing   nothing is left, or it had its time        ended; exit code 0, or 75 where the newest checkpoint is
///               (HostProcesses::MayLinger)                 not that of the last step; what is left is stopped
///   finishing   a signal, and only the evaluator is left   the same
///   any         a second SIGINT, SIGQUIT                   ended; all processes are killed, exit code 130
class Session {
 public:
  /// Takes the run folder, makes the run's keys or its token, and writes the resolved settings.
  Session(LaunchPlan plan, SessionOptions options, std::filesystem::path programs);
  /// The exit code, one of exit_codes.h. It is in the run's history; where there are other hosts, the run folder's
  /// outcome tells them.
  int Run();

 private:
  using Clock = std::chrono::steady_clock;
  enum class State { kRunning, kGoingBack, kFailing, kRecovering, kFinishing, kEnded };

  void Supervise();
  void Record(const std::function<void()>& record);
  void Leave();
  void OnExit(const ExitReport& report);
  void OnTeacherExit(const ExitReport& report);
  void OnSignals();
  void TalkToBroker();
  bool ConnectToBroker();
  void Drain();
  void OnMessage(const Envelope& message);
  void FailBy(const ExitReport& report);
  bool MayGoBack(const ExitReport& report) const;
  void GoBackAfter(const ExitReport& report);
  void AskForStatus();
  void OnStatus(const std::string& status_json);
  void WatchBroker();
  void GoBack();
  void Fail();
  bool MayRecover(const ExitReport& cause);
  bool HasProgressed(const std::string& process);
  void Recover(const ExitReport& cause, const RestartBudget::Attempt& attempt);
  void StartAgain(const std::string& process, const std::string& cause);
  void TellFailure(const ExitReport& cause);
  void Finish();
  void EndInOrder();
  void End(int exit_code);

  LaunchPlan plan_;
  RunLock lock_;
  RunStart start_;
  Console console_;
  HostProcesses processes_;
  std::unique_ptr<Client> control_;
  State state_ = State::kRunning;
  Clock::time_point next_status_{};
  bool replay_;
  RestartBudget budget_;          // of the generator, the fake score and the broker
  std::set<Role> progressed_;     // trained roles that did a step since this launcher started, as the statuses told
  Clock::duration unanswered_{};  // since the broker's last status, without what this process slept through itself
  Clock::time_point last_look_{};
  std::vector<ExitReport> failures_;     // kFailing: at least one
  ExitReport dead_;                      // kRecovering: whose end it recovers from
  Clock::time_point resume_at_{};        // kRecovering
  std::optional<ExitReport> diverged_;   // kGoingBack: the trained role that asked for the last checkpoint
  Clock::time_point finishing_since_{};  // kFinishing
  int signals_handled_ = 0;
  bool draining_ = false;  // as a signal asked
  int exit_code_ = 1;      // kEnded
  std::string cause_;      // of a failure, for the history
};

}  // namespace sgmd
