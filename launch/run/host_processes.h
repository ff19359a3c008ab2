// The processes of a run on one host: what is started there, and what may die without the run failing.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "launch/plan/run_commands.h"
#include "launch/run/console.h"
#include "launch/run/restart_budget.h"
#include "launch/run/stall_watch.h"
#include "launch/run/step_trace.h"
#include "launch/run/supervisor.h"

namespace sgmd {

/// What a launcher was told to do.
struct SessionOptions {
  std::string host;     // the host that this is, one of the topology's; empty where it names none
  bool replay = false;  // no teachers, the broker serves from the cache
  bool quiet = false;   // no process output on the console, progress only
  std::string trace;    // which steps to record, as common/trace/trace.h reads it; empty: none
};

class HostProcesses {
 public:
  using Clock = std::chrono::steady_clock;

  /// `console` outlives it.
  HostProcesses(LaunchPlan plan, SessionOptions options, std::filesystem::path programs, Console* console);

  /// Starts everything that belongs on this host as start `epoch` of the run.
  void StartAll(std::uint64_t epoch);
  /// Waits at most `timeout` for output, an exit or a signal. Returns what ended, without the evaluator: training does
  /// not need it, its end is told on the console.
  std::vector<ExitReport> Poll(std::chrono::milliseconds timeout);
  /// What the broker says of the run: ends the processes of this host that hang (StallWatch, EndHung).
  void OnStatus(const std::string& status_json);
  /// Has `name` write its stacks to its log, and kills it a second later; its report then says `why`.
  void EndHung(const std::string& name, const std::string& why);
  /// Plans the next start of a teacher of which a process did not end as it was told to, and ends the other ranks of
  /// its group. False when it has died too often ([restart] attempts). One that left by itself, with exit code 0, is
  /// started again after 3 s: until then it may show that the run has ended.
  bool PlanRestart(const ExitReport& teacher);
  void StartDueTeachers();
  /// `count` teachers on all hosts together: starts and drains those of this host.
  void Scale(int count);
  void StopAll(std::chrono::milliseconds grace) { supervisor_.StopAll(grace); }
  /// Puts together what the processes have recorded of the steps to trace, once all have (or `at_end`).
  void CollectTrace(bool at_end);
  /// Of a run that ended in order at `since`, what is left here may end by itself. False when it has had its time: 10
  /// s, the evaluator 10 min, or 60 s where the run was `drained` before its last step. Says once that it waits for the
  /// evaluator, and at the end how to measure what it left.
  bool MayLinger(Clock::time_point since, bool drained);
  /// Nothing runs but the evaluator, which training does not need.
  bool OnlyEvaluatorLeft() const;

  bool Running(const std::string& name) const { return supervisor_.Running(name); }
  bool empty() const { return supervisor_.Names().empty(); }

 private:
  struct Hung {
    std::string why;
    Clock::time_point kill_at;
  };
  std::vector<RunCommand> CommandsHere() const;
  /// Those of a teacher: of all ranks of its group.
  std::vector<RunCommand> CommandsOf(const std::string& teacher) const;
  bool AnyRuns(const std::vector<RunCommand>& commands) const;
  /// Ranks of a group that are started together meet each other.
  void Start(std::vector<RunCommand> commands);
  void StartTrace();
  void KillHung();

  LaunchPlan plan_;  // with as many teachers as are wanted now
  SessionOptions options_;
  std::filesystem::path programs_;
  std::uint64_t epoch_ = 0;
  Console* console_;
  Supervisor supervisor_;
  RestartBudget budget_;                          // of teachers
  std::map<std::string, Clock::time_point> due_;  // teachers that are started again then
  StallWatch stalls_;
  std::map<std::string, Hung> hung_;
  std::set<std::string> retired_;  // teachers told to leave
  std::optional<StepTraceCollector> trace_;
  bool said_waiting_ = false;  // for the evaluator
};

}  // namespace sgmd
