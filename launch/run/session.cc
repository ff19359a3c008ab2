#include "launch/run/session.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/error/error.h"
#include "common/error/text.h"
#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
#include "launch/run/replay_check.h"
#include "launch/run/run_history.h"
#include "launch/run/stop_signals.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kPoll{200}, kConnectPatience{300}, kGatherFailures{500}, kLastStatus{1000};
constexpr std::chrono::seconds kStatusPeriod{1}, kStopGrace{5}, kRestartGrace{1}, kLongestLook{1};
constexpr std::size_t kMaxRollbacks = 2;

RunStart Begin(const LaunchPlan& plan, bool replay, const std::filesystem::path& programs) {
  SaveRun(plan);
  return BeginStart(plan, replay ? EndOfRecord(plan, programs) : 0);
}

// The process that a signal ended, or else the first that failed by itself and not for want of another rank.
const ExitReport& CauseOf(const std::vector<ExitReport>& failures) {
  const auto first = [&](auto condition) { return std::ranges::find_if(failures, condition); };
  auto cause = first([](const ExitReport& f) { return f.signal != 0; });
  if (cause == failures.end()) cause = first([](const ExitReport& f) { return f.code != kExitGroupLost; });
  return cause == failures.end() ? failures.front() : *cause;
}

}  // namespace

Session::Session(LaunchPlan plan, SessionOptions options, std::filesystem::path programs)
    : plan_(std::move(plan)),
      lock_(plan_.topology.run.folder),
      start_(Begin(plan_, options.replay, programs)),
      console_(options.quiet, RunFolder{plan_.topology.run.folder}.Logs() / "launch.log"),
      processes_(plan_, options, std::move(programs), &console_),
      replay_(options.replay),
      budget_(plan_.topology.restart) {
  MakeRunKeys(RunFolder{plan_.topology.run.folder}.Keys(), UsersOf(plan_), plan_.topology.transport.encrypt);
  if (start_.until > 0) {
    console_.Say(
        StrCat("the record ends at step ", start_.until, " of ", plan_.experiment.steps, ", and so does this replay"));
  }
}

int Session::Run() {
  try {
    Record([&] {
      RecordStart(plan_.topology.run.folder,
                  {"", start_.epoch, start_.step, ::getpid(), RunLock::ThisMachine(), {}, {}});
    });
    Supervise();
  } catch (const std::exception& error) {
    cause_ = error.what();
    Leave();
    throw;
  }
  Leave();
  return exit_code_;
}

// The history is for people: a full disk under it stops no training.
void Session::Record(const std::function<void()>& record) {
  try {
    record();
  } catch (const Error& error) {
    console_.Say(StrCat("the history of the run is not kept: ", error.message(), " (", error.where(), ")"));
  }
}

void Session::Leave() {
  const std::filesystem::path& folder = plan_.topology.run.folder;
  if (!plan_.topology.run.hosts.empty()) WriteOutcome(folder, start_.epoch, exit_code_);
  Record([&] { RecordEnd(folder, {"", start_.epoch, OutcomeOf(exit_code_), exit_code_, NewestStep(folder), cause_}); });
}

void Session::Supervise() {
  CountStopSignals();
  console_.Say(StrCat("run folder ", plan_.topology.run.folder.string(), ", start ", start_.epoch));
  processes_.StartAll(start_.epoch);
  while (state_ != State::kEnded) {
    for (const ExitReport& report : processes_.Poll(kPoll)) OnExit(report);
    OnSignals();
    switch (state_) {
      case State::kRunning:
        processes_.StartDueTeachers();
        TalkToBroker();
        WatchBroker();
        break;
      case State::kRecovering:
        if (Clock::now() >= resume_at_) StartAgain(dead_.name, dead_.Summary());
        break;
      case State::kGoingBack:
        GoBack();
        break;
      case State::kFailing:
        Fail();
        break;
      case State::kFinishing:
        Finish();
        break;
      case State::kEnded:
        break;
    }
  }
}

void Session::OnExit(const ExitReport& report) {
  if (IsTeacher(report.name)) return OnTeacherExit(report);
  if (state_ == State::kFailing && report.code != 0) failures_.push_back(report);
  if (state_ != State::kRunning) return;
  if (report.code == 0) {  // by themselves they end in order only when the broker has closed the run
    state_ = State::kFinishing;
    finishing_since_ = Clock::now();
  } else if (MayGoBack(report)) {
    GoBackAfter(report);
  } else {
    FailBy(report);
  }
}

bool Session::MayGoBack(const ExitReport& report) const {
  return report.code == kExitRollBack && RollbacksOf({plan_.topology.run.folder}).size() < kMaxRollbacks;
}

void Session::GoBackAfter(const ExitReport& report) {
  state_ = State::kGoingBack;
  diverged_ = report;
}

void Session::FailBy(const ExitReport& report) {
  state_ = State::kFailing;
  failures_.push_back(report);
}

void Session::OnTeacherExit(const ExitReport& report) {
  if (control_) {
    control_->Send(ToEnvelope(message::NodeExited{report.name}));
  }
  if (state_ == State::kRunning && !processes_.PlanRestart(report)) FailBy(report);
}

void Session::OnSignals() {
  if (StopSignals() <= signals_handled_) return;
  signals_handled_ = StopSignals();
  if (state_ == State::kFinishing && processes_.OnlyEvaluatorLeft()) return EndInOrder();
  if (KillRequested()) {
    console_.Say("killing all processes; `up` resumes from the last checkpoint");
    processes_.StopAll(std::chrono::milliseconds(0));
    return End(kExitKilled);
  }
  if (std::exchange(draining_, true)) return;
  console_.Say("draining: this step is finished and checkpointed first (Ctrl-C once more kills)");
  if (control_) Drain();
}

void Session::Drain() { control_->Send(ToEnvelope(message::Drain{})); }

bool Session::ConnectToBroker() {
  if (control_ || !processes_.Running(Spell(Role::kBroker))) return control_ != nullptr;
  try {
    const NodeIdentity identity = ControlIdentity(plan_, Spell(Role::kLauncher), start_.epoch);
    control_ = std::make_unique<Client>(plan_.topology.transport.control, identity, Envelope{}, kConnectPatience);
  } catch (const Error&) {
    return false;  // not up yet; its own failure ends it and is reported then
  }
  if (draining_) Drain();  // what the broker was told before the run went back to a checkpoint
  return true;
}

void Session::TalkToBroker() {
  if (Clock::now() < next_status_ || !ConnectToBroker()) return;
  next_status_ = Clock::now() + kStatusPeriod;
  AskForStatus();
}

void Session::AskForStatus() {
  control_->Send(ToEnvelope(message::StatusRequest{}));
  while (const auto message = control_->Receive(std::chrono::milliseconds(50))) {
    OnMessage(*message);
    if (message->kind == wire::Kind::Status) break;
  }
}

void Session::OnMessage(const Envelope& message) {
  if (message.kind == wire::Kind::Status) OnStatus(FromEnvelope<message::Status>(message).json);
  if (message.kind == wire::Kind::Scale)
    processes_.Scale(static_cast<int>(FromEnvelope<message::Scale>(message).teachers));
  if (message.kind != wire::Kind::RoleFailed) return;
  const ExitReport report = FailureFrom(message);
  const auto node = ParseNodeName(report.name);
  const std::string host = node ? " on " + PlacementOf(plan_, *node).host : "";
  console_.Say(StrCat(report.name, " ended", host, " by ", report.Summary()));
  if (IsTeacher(report.name)) {
    FailBy(report);  // it was started again as often as it may
  } else {
    OnExit(report);
  }
}

void Session::OnStatus(const std::string& status_json) {
  unanswered_ = {};
  console_.Progress(status_json);
  processes_.OnStatus(status_json);
  const auto status = nlohmann::json::parse(status_json);
  if (status.value("step", std::int64_t{0}) > start_.step) progressed_.insert(Role::kGenerator);
  if (status.contains("scalars") && status["scalars"].contains("fake_score_learning_rate"))
    progressed_.insert(Role::kFakeScore);
  draining_ =
      draining_ || status.value("state", "") == "draining";  // as another host, or a signal to the broker, asked
}

void Session::WatchBroker() {
  const auto now = Clock::now();
  if (control_) unanswered_ += std::min<Clock::duration>(now - last_look_, kLongestLook);
  last_look_ = now;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(unanswered_).count();
  if (static_cast<double>(seconds) < plan_.topology.transport.silence_seconds) return;
  processes_.EndHung(Spell(Role::kBroker), StrCat("did not answer for ", seconds, " s"));
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

void Session::Finish() {
  if (processes_.empty() || !processes_.MayLinger(finishing_since_, draining_)) EndInOrder();
}

void Session::EndInOrder() {
  const std::int64_t end = start_.until > 0 ? start_.until : plan_.experiment.steps;
  const bool complete = NewestStep(plan_.topology.run.folder) >= end;
  End(complete ? kExitFinished : kExitDrained);
}

void Session::End(int exit_code) {
  processes_.StopAll(kStopGrace);
  processes_.CollectTrace(/*at_end=*/true);
  state_ = State::kEnded;
  exit_code_ = exit_code;
  if (!EndedInOrder(exit_code)) return;
  if (exit_code == kExitDrained) console_.Say("drained and checkpointed; `up` resumes");
  console_.Say(StrCat("student in ", RunFolder{plan_.topology.run.folder}.Student().string()));
}

}  // namespace sgmd
