#include "launch/run/session.h"

#include <algorithm>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "launch/run/stop_signals.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kPoll{200}, kConnectPatience{300}, kGatherFailures{500};
constexpr std::chrono::seconds kStatusPeriod{1}, kStopGrace{5};
constexpr std::size_t kMaxRollbacks = 2;

}  // namespace

Session::Session(LaunchPlan plan, SessionOptions options, std::filesystem::path programs)
    : plan_(std::move(plan)),
      lock_(plan_.topology.run.folder),
      epoch_(BeginStart(plan_).epoch),
      console_(options.quiet),
      processes_(plan_, options, std::move(programs), &console_) {
  if (plan_.topology.transport.encrypt) MakeRunKeys(RunFolder{plan_.topology.run.folder}.Keys());
  SaveRun(plan_);
}

int Session::Run() {
  if (plan_.topology.run.hosts.empty()) return Supervise();
  int code = 1;
  try {
    code = Supervise();
  } catch (...) {
    WriteOutcome(plan_.topology.run.folder, epoch_, code);
    throw;
  }
  WriteOutcome(plan_.topology.run.folder, epoch_, code);
  return code;
}

int Session::Supervise() {
  CountStopSignals();
  console_.Say(StrCat("run folder ", plan_.topology.run.folder.string(), ", start ", epoch_));
  processes_.StartAll(epoch_);
  while (!processes_.empty()) {
    for (const ExitReport& report : processes_.Poll(kPoll)) OnExit(report);
    if (!failures_.empty()) return Fail();
    if (roll_back_) RollBack();
    OnSignals();
    if (signals_handled_ > 1) return End();
    if (!finished_) {
      processes_.StartDueTeachers();
      TalkToBroker();
    } else if (processes_.LingersTooLong(*finished_)) {
      processes_.StopAll(kStopGrace);
    }
  }
  return End();
}

void Session::OnExit(const ExitReport& report) {
  if (IsTeacher(report.name)) return OnTeacherExit(report);
  if (report.code == kExitRollBack && RollbacksOf({plan_.topology.run.folder}).size() < kMaxRollbacks) {
    roll_back_ = report;
  } else if (report.code == 0) {
    if (!finished_) finished_ = Clock::now();  // these end by themselves only when the broker has closed the run
  } else if (!finished_) {
    failures_.push_back(report);
  }
}

void Session::OnTeacherExit(const ExitReport& report) {
  if (control_) {
    control_->Send(ToEnvelope(message::NodeExited{report.name}));
  }
  if (!finished_ && !processes_.PlanRestart(report)) failures_.push_back(report);
}

void Session::OnSignals() {
  if (StopSignals() <= signals_handled_) return;
  signals_handled_ = StopSignals();
  if (signals_handled_ > 1 || !control_) {
    console_.Say("killing all processes; `up` resumes from the last checkpoint");
    processes_.StopAll(std::chrono::milliseconds(0));
    signals_handled_ = 2;
    return;
  }
  console_.Say("draining: this step is finished and checkpointed (once more: kill)");
  control_->Send(ToEnvelope(message::Drain{}));
}

bool Session::ConnectToBroker() {
  if (control_ || !processes_.Running(Spell(Role::kBroker))) return control_ != nullptr;
  try {
    const NodeIdentity identity = ControlIdentity(plan_, Spell(Role::kLauncher), epoch_);
    control_ = std::make_unique<Client>(plan_.topology.transport.control, identity, Envelope{}, kConnectPatience);
  } catch (const Error&) {
    return false;  // not up yet; its own failure ends it and is reported then
  }
  return true;
}

void Session::TalkToBroker() {
  if (Clock::now() < next_status_ || !ConnectToBroker()) return;
  next_status_ = Clock::now() + kStatusPeriod;
  control_->Send(ToEnvelope(message::StatusRequest{}));
  while (const auto message = control_->Receive(std::chrono::milliseconds(50))) {
    OnMessage(*message);
    if (message->kind == wire::Kind::Status) break;
  }
}

void Session::OnMessage(const Envelope& message) {
  if (message.kind == wire::Kind::Status) console_.Progress(FromEnvelope<message::Status>(message).json);
  if (message.kind == wire::Kind::Scale)
    processes_.Scale(static_cast<int>(FromEnvelope<message::Scale>(message).teachers));
  if (message.kind != wire::Kind::RoleFailed) return;
  const ExitReport report = FailureFrom(message);
  const auto node = ParseNodeName(report.name);
  const std::string host = node ? " on " + PlacementOf(plan_, *node).host : "";
  console_.Say(StrCat(report.name, " ended", host, " by ", report.Reason()));
  if (IsTeacher(report.name)) {
    failures_.push_back(report);  // it was started again as often as it may
  } else {
    OnExit(report);
  }
}

void Session::RollBack() {
  processes_.StopAll(kStopGrace);
  const RunFolder folder{plan_.topology.run.folder};
  std::vector<std::string> all = RollbacksOf(folder);
  all.push_back(roll_back_->name + ": " + (roll_back_->last_lines.empty() ? "" : roll_back_->last_lines.back()));
  std::string text;
  for (const std::string& line : all) text += line + "\n";
  WriteFileAtomically(folder.Rollbacks(), text);
  roll_back_.reset();
  failures_.clear();
  control_.reset();
  epoch_ = BeginStart(plan_).epoch;
  console_.Say(StrCat("going back to the last checkpoint with new draws (", all.size(), " of ", kMaxRollbacks,
                      "): ", all.back()));
  processes_.StartAll(epoch_);
}

int Session::Fail() {
  // What a failure drags down ends within moments; the process that a signal ended, or else the first, is the cause.
  const auto until = Clock::now() + kGatherFailures;
  while (Clock::now() < until) {
    for (const ExitReport& report : processes_.Poll(std::chrono::milliseconds(50))) {
      if (!IsTeacher(report.name) && report.code != 0) failures_.push_back(report);
    }
  }
  processes_.StopAll(kStopGrace);
  const auto by_signal = std::find_if(failures_.begin(), failures_.end(), [](const auto& f) { return f.signal != 0; });
  const ExitReport& cause = by_signal != failures_.end() ? *by_signal : failures_.front();
  console_.Say(
      StrCat(cause.name, " failed with ", cause.Reason(), "; all other processes were stopped. Its last lines:"));
  for (const std::string& line : cause.last_lines) console_.Say("  " + line);
  console_.Say(StrCat("whole log: ", (RunFolder{plan_.topology.run.folder}.Logs() / (cause.name + ".log")).string()));
  if (cause.code == kExitRollBack) {
    console_.Say(
        "The run went back to a checkpoint twice before and training diverged again. Lower the learning rates or "
        "lambda, "
        "add warmup_steps, or raise score_sigma_min; what was tried:");
    for (const std::string& line : RollbacksOf({plan_.topology.run.folder})) console_.Say("  " + line);
  }
  console_.Say("`up` resumes from the last checkpoint");
  return cause.signal != 0 ? 1 : cause.code;
}

int Session::End() {
  if (signals_handled_ > 1) return kExitKilled;
  if (signals_handled_ == 1) console_.Say("drained and checkpointed; `up` resumes");
  console_.Say(StrCat("student in ", RunFolder{plan_.topology.run.folder}.Student().string()));
  return 0;
}

}  // namespace sgmd
