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

constexpr std::chrono::milliseconds kPoll{200}, kConnectPatience{300};
constexpr std::chrono::seconds kStatusPeriod{1}, kStopGrace{5}, kLongestLook{1};

RunStart Begin(const LaunchPlan& plan, bool replay, const std::filesystem::path& programs) {
  SaveRun(plan);
  return BeginStart(plan, replay ? EndOfRecord(plan, programs) : 0);
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
