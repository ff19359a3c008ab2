// What a session does when a process has failed: it goes back, goes on from the newest checkpoint, or ends.
#include <algorithm>

#include "common/error/error.h"
#include "common/error/text.h"
#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
#include "launch/run/run_history.h"
#include "launch/run/session.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kGatherFailures{500}, kLastStatus{1000};
constexpr std::chrono::seconds kStopGrace{5}, kRestartGrace{1};
constexpr std::size_t kMaxRollbacks = 2;

// The process that a signal ended, or else the first that failed by itself and not for want of another rank.
const ExitReport& CauseOf(const std::vector<ExitReport>& failures) {
  const auto first = [&](auto condition) { return std::ranges::find_if(failures, condition); };
  auto cause = first([](const ExitReport& f) { return f.signal != 0; });
  if (cause == failures.end()) cause = first([](const ExitReport& f) { return f.code != kExitGroupLost; });
  return cause == failures.end() ? failures.front() : *cause;
}

}  // namespace

bool Session::MayGoBack(const ExitReport& report) const {
  return report.code == kExitRollBack && RollbacksOf({plan_.topology.run.folder}).size() < kMaxRollbacks;
}

void Session::GoBackAfter(const ExitReport& report) {
  state_ = State::kGoingBack;
  diverged_ = report;
}

void Session::GoBack() {
  processes_.StopAll(kRestartGrace);
  const RunFolder folder{plan_.topology.run.folder};
  std::vector<std::string> all = RollbacksOf(folder);
  all.push_back(diverged_->name + ": " + diverged_->Cause());
  WriteFileAtomically(folder.Rollbacks(), Joined(all, "\n") + "\n");
  console_.Say(StrCat("going back to the last checkpoint with new draws (", all.size(), " of ", kMaxRollbacks,
                      "): ", all.back()));
  StartAgain(diverged_->name, diverged_->Cause());
  diverged_.reset();
}

void Session::StartAgain(const std::string& process, const std::string& cause) {
  control_.reset();
  unanswered_ = {};
  start_ = BeginStart(plan_, start_.until);
  Record([&] { RecordRestart(plan_.topology.run.folder, {"", start_.epoch, process, cause, start_.step}); });
  processes_.StartAll(start_.epoch);
  state_ = State::kRunning;
}

void Session::Fail() {
  // A signal came from outside; after an error those that it drags down may be the first to be seen.
  const auto until = Clock::now() + (failures_.front().signal != 0 ? std::chrono::milliseconds(0) : kGatherFailures);
  while (Clock::now() < until) {
    for (const ExitReport& report : processes_.Poll(std::chrono::milliseconds(50))) OnExit(report);
  }
  const ExitReport cause = CauseOf(failures_);
  failures_.clear();
  if (MayGoBack(cause)) return GoBackAfter(cause);
  const auto attempt = MayRecover(cause) ? budget_.OnEnd(cause.name) : std::nullopt;
  if (attempt) return Recover(cause, *attempt);
  processes_.StopAll(kStopGrace);
  TellFailure(cause);
  cause_ = StrCat(cause.name, " failed with ", cause.Summary());
  End(kExitFailed);
}

// An error before the first step, or of a replay, would come again.
bool Session::MayRecover(const ExitReport& cause) {
  if (IsTeacher(cause.name) || cause.code == kExitRollBack) return false;
  return cause.signal != 0 || (!replay_ && HasProgressed(cause.name));
}

// A fast run does many steps between two statuses. What a process that failed has done is in its last beat, which it
// sends as it ends; where the broker failed, a checkpoint may tell. The generator may have done a step before the fake
// score failed in its first, which would come again, too.
bool Session::HasProgressed(const std::string& process) {
  const auto node = ParseNodeName(process);
  const Role role = node && node->role == Role::kFakeScore ? Role::kFakeScore : Role::kGenerator;
  const auto until = Clock::now() + kLastStatus;
  while (!progressed_.contains(role) && Clock::now() < until) {
    if (NewestStep(plan_.topology.run.folder) > start_.step) return true;
    if (!ConnectToBroker()) return false;
    AskForStatus();
    processes_.Poll(std::chrono::milliseconds(50));  // what ends now is not the cause
  }
  return progressed_.contains(role);
}

void Session::Recover(const ExitReport& cause, const RestartBudget::Attempt& attempt) {
  processes_.StopAll(kRestartGrace);
  control_.reset();
  const std::int64_t step = NewestStep(plan_.topology.run.folder);
  console_.Say(StrCat(cause.name, " ended by ", cause.Summary(), "; the run goes on from ",
                      step > 0 ? StrCat("the checkpoint of step ", step) : "its beginning", " in ",
                      attempt.delay.count() / 1000.0, " s (attempt ", attempt.number, " of ",
                      plan_.topology.restart.attempts, ")"));
  dead_ = cause;
  resume_at_ = Clock::now() + attempt.delay;
  state_ = State::kRecovering;
}

void Session::TellFailure(const ExitReport& cause) {
  const RunFolder folder{plan_.topology.run.folder};
  console_.Say(
      StrCat(cause.name, " failed with ", cause.Reason(), "; all other processes were stopped. Its last lines:"));
  for (const std::string& line : cause.last_lines) console_.Say("  " + line);
  console_.Say(StrCat("whole log: ", folder.LogOf(cause.name).string()));
  if (cause.code == kExitRollBack) {
    console_.Say(
        "The run went back to a checkpoint twice before, and training diverged again. Lower the learning rates or "
        "lambda, add warmup_steps, or raise score_sigma_min. What was tried:");
    for (const std::string& line : RollbacksOf(folder)) console_.Say("  " + line);
  }
  console_.Say("`up` resumes from the last checkpoint");
  if (NewestStep(folder.root) > 0)
    console_.Say(StrCat("its student: sgmd-export ", folder.root.string(), " --diffusers <folder to write>"));
}

}  // namespace sgmd
