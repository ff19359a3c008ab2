#include "launch/run/further_host.h"

#include <utility>

#include "common/error/error.h"
#include "launch/run/exit_codes.h"
#include "launch/run/stop_signals.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kPoll{200}, kConnectPatience{2000};
constexpr std::chrono::seconds kPeriod{1}, kStopGrace{5}, kLoseGrace{1};

}  // namespace

FurtherHost::FurtherHost(LaunchPlan plan, SessionOptions options, std::filesystem::path programs)
    : plan_(std::move(plan)),
      options_(std::move(options)),
      lock_(plan_.topology.run.folder, options_.host),
      earlier_outcome_(ReadOutcome(plan_.topology.run.folder)),
      console_(options_.quiet, RunFolder{plan_.topology.run.folder}.Logs() / ("launch." + options_.host + ".log")),
      processes_(plan_, options_, std::move(programs), &console_) {}

int FurtherHost::Run() {
  CountStopSignals();
  console_.Say(StrCat("host ", options_.host, " of run folder ", plan_.topology.run.folder.string()));
  while (!exit_code_) {
    for (const ExitReport& report : processes_.Poll(kPoll)) OnExit(report);
    OnSignals();
    if (exit_code_ || Clock::now() < next_talk_) continue;
    next_talk_ = Clock::now() + kPeriod;
    if (ReadOutcome(plan_.topology.run.folder) != earlier_outcome_) {
      LeaveEndedRun();
    } else if (control_) {
      TalkToBroker();
    } else {
      Join();
    }
  }
  return *exit_code_;
}

void FurtherHost::Wait(const std::string& why) {
  if (why != waiting_for_) console_.Say(StrCat("waiting for host ", plan_.topology.run.hosts.front(), ": ", why));
  waiting_for_ = why;
}

void FurtherHost::Join() {
  const RunFolder folder{plan_.topology.run.folder};
  if (plan_.topology.transport.encrypt && !std::filesystem::exists(folder.Keys()))
    return Wait("it has not been up in this run folder");
  const std::uint64_t epoch = ReadRunStart(folder).epoch;
  const NodeIdentity identity = ControlIdentity(plan_, "launcher." + options_.host, epoch);
  try {
    control_ = std::make_unique<Client>(plan_.topology.transport.control, identity, Envelope{}, kConnectPatience);
  } catch (const Error& error) {
    return Wait(StrCat(error.message(), " (", error.where(), ") ", error.hint()));
  }
  epoch_ = epoch;
  last_answer_ = Clock::now();
  waiting_for_.clear();
  console_.Say(StrCat("joined host ", plan_.topology.run.hosts.front(), ", start ", epoch_));
  processes_.StartAll(epoch_);
}

void FurtherHost::TalkToBroker() {
  if (ReadRunStart({plan_.topology.run.folder}).epoch != epoch_) return Lose("the run was started anew");
  processes_.StartDueTeachers();
  if (failed_) control_->Send(FailureMessage(*failed_));
  control_->Send(ToEnvelope(message::StatusRequest{}));
  while (const auto message = control_->Receive(std::chrono::milliseconds(50))) {
    last_answer_ = Clock::now();
    if (message->kind == wire::Kind::Status) {
      const std::string json = FromEnvelope<message::Status>(*message).json;
      console_.Progress(json);
      processes_.OnStatus(json);
    }
    if (message->kind == wire::Kind::Scale)
      processes_.Scale(static_cast<int>(FromEnvelope<message::Scale>(*message).teachers));
  }
  const std::chrono::duration<double> silent = Clock::now() - last_answer_;
  if (silent.count() > plan_.topology.transport.silence_seconds) Lose("the broker does not answer");
}

void FurtherHost::OnExit(const ExitReport& report) {
  if (!control_) return;
  if (IsTeacher(report.name)) {
    control_->Send(ToEnvelope(message::NodeExited{report.name}));
    if (processes_.PlanRestart(report)) return;
  }
  if (report.code == 0) return;  // the broker has closed the run
  console_.Say(
      StrCat(report.name, " failed with ", report.Summary(), "; host ", plan_.topology.run.hosts.front(), " is told"));
  failed_ = report;
  control_->Send(FailureMessage(report));
}

void FurtherHost::OnSignals() {
  if (StopSignals() <= signals_handled_) return;
  signals_handled_ = StopSignals();
  if (KillRequested() || !control_) {
    console_.Say("killing the processes of this host");
    processes_.StopAll(std::chrono::milliseconds(0));
    exit_code_ = kExitKilled;
    return;
  }
  if (std::exchange(draining_, true)) return;
  console_.Say(
      "draining the whole run: this step is finished and checkpointed first (Ctrl-C once more kills what runs here)");
  control_->Send(ToEnvelope(message::Drain{}));
}

void FurtherHost::Lose(const std::string& why) {
  console_.Say(why + ": stopping the processes of this host until it is back");
  processes_.StopAll(kLoseGrace);
  control_.reset();
  failed_.reset();
}

void FurtherHost::LeaveEndedRun() {
  const int code = ExitCodeOf(ReadOutcome(plan_.topology.run.folder));
  const auto since = Clock::now();
  const bool drained = code == kExitDrained;
  while (EndedInOrder(code) && !processes_.empty() && processes_.MayLinger(since, drained) &&
         StopSignals() <= signals_handled_) {
    processes_.Poll(kPoll);
  }
  processes_.StopAll(kStopGrace);
  console_.Say(EndedInOrder(code) ? "the run has ended"
                                  : StrCat("the run was stopped on host ", plan_.topology.run.hosts.front()));
  exit_code_ = code;
}

}  // namespace sgmd
