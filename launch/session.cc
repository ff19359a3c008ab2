#include "launch/session.h"

#include <algorithm>
#include <csignal>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kPoll{200}, kConnectPatience{300}, kGatherFailures{500};
constexpr std::chrono::seconds kStatusPeriod{1}, kStopGrace{5}, kLinger{10};
constexpr std::size_t kMaxRollbacks = 2;
constexpr std::chrono::seconds kEvaluatorLinger{600};
constexpr std::chrono::milliseconds kFirstBackoff{500}, kLongestBackoff{8000};

volatile std::sig_atomic_t signals_seen = 0;

void CountSignals() {
  signals_seen = 0;
  struct sigaction action {};
  action.sa_handler = [](int) { signals_seen = signals_seen + 1; };
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

constexpr const char* kEvaluator = "evaluator";

bool IsTeacher(const std::string& name) { return name.starts_with("teacher."); }

}  // namespace

std::map<std::string, std::vector<std::string>> RunCommands(const LaunchPlan& plan, std::uint64_t epoch, bool replay,
                                                            const std::filesystem::path& programs) {
  const std::string run = plan.topology.run_folder.string(), number = std::to_string(epoch);
  const auto command = [&](const char* program) {
    return std::vector<std::string>{(programs / program).string(), "--run", run, "--epoch", number};
  };
  std::map<std::string, std::vector<std::string>> commands{
      {"broker", command("sgmd-broker")}, {"fake_score", command("sgmd-fake-score")}, {"generator", command("sgmd-generator")}};
  if (replay) commands["broker"].push_back("--replay");
  if (plan.topology.evaluator_enabled) {
    commands[kEvaluator] = command("sgmd-evaluator");
    commands[kEvaluator].push_back("--watch");
  }
  for (std::int64_t i = 0; !replay && i < plan.topology.teacher_replicas; ++i) {
    const std::string name = StrCat("teacher.", i);
    commands[name] = command("sgmd-teacher");
    commands[name].insert(commands[name].end(), {"--name", name});
    if (!plan.topology.teacher_devices.empty()) {
      commands[name].insert(commands[name].end(), {"--device", TeacherDevice(plan.topology, i)});
    }
  }
  return commands;
}

Session::Session(LaunchPlan plan, SessionOptions options, std::filesystem::path programs)
    : plan_(std::move(plan)),
      options_(options),
      programs_(std::move(programs)),
      lock_(plan_.topology.run_folder),
      epoch_(NextEpoch(plan_.topology.run_folder)),
      console_(options.quiet),
      supervisor_(RunFolder{plan_.topology.run_folder}.Logs(),
                  [this](const std::string& name, const std::string& line) { console_.ProcessLine(name, line); }),
      teachers_wanted_(options.replay ? 0 : static_cast<int>(plan_.topology.teacher_replicas)) {
  SaveRun(plan_);
}

int Session::Run() {
  CountSignals();
  console_.Say(StrCat("run folder ", plan_.topology.run_folder.string(), ", start ", epoch_));
  for (const auto& [name, command] : RunCommands(plan_, epoch_, options_.replay, programs_)) supervisor_.Start(name, command);
  while (!supervisor_.Names().empty()) {
    for (const ExitReport& report : supervisor_.Poll(kPoll)) OnExit(report);
    if (!failures_.empty()) return Fail();
    if (roll_back_) RollBack();
    OnSignals();
    if (signals_handled_ > 1) return End();
    if (!finished_) {
      StartDueTeachers();
      TalkToBroker();
    } else if (Clock::now() - *finished_ > (supervisor_.Running(kEvaluator) ? kEvaluatorLinger : kLinger)) {
      supervisor_.StopAll(kStopGrace);
    }
  }
  return End();
}

void Session::Start(const std::string& name) {
  LaunchPlan plan = plan_;
  plan.topology.teacher_replicas = std::max<std::int64_t>(plan.topology.teacher_replicas, teachers_wanted_);
  supervisor_.Start(name, RunCommands(plan, epoch_, options_.replay, programs_).at(name));
}

void Session::OnExit(const ExitReport& report) {
  if (IsTeacher(report.name)) return OnTeacherExit(report);
  if (report.name == kEvaluator) return OnEvaluatorExit(report);
  if (report.code == kExitRollBack && RollbacksOf({plan_.topology.run_folder}).size() < kMaxRollbacks) {
    roll_back_ = report;
  } else if (report.code == 0) {
    if (!finished_) finished_ = Clock::now();  // these end by themselves only when the broker has closed the run
  } else if (!finished_) {
    failures_.push_back(report);
  }
}

// Training does not need it: its end is reported, and nothing else happens.
void Session::OnEvaluatorExit(const ExitReport& report) {
  if (report.code == 0) return;
  console_.Say(StrCat("evaluator ended by ", report.Reason(), "; training goes on without it. Its last lines:"));
  for (const std::string& line : report.last_lines) console_.Say("  " + line);
}

void Session::OnTeacherExit(const ExitReport& report) {
  if (control_) {
    Envelope exited;
    exited.kind = wire::Kind::NodeExited;
    exited.text = report.name;
    control_->Send(exited);
  }
  if (finished_ || retired_.erase(report.name) > 0 || report.code == 0) return;
  Restart& restart = restarts_[report.name];
  if (++restart.count > plan_.topology.teacher_max_restarts) {
    failures_.push_back(report);
    return;
  }
  const auto backoff = std::min(kLongestBackoff, kFirstBackoff * (1 << std::min(restart.count - 1, 10)));
  restart.due = Clock::now() + backoff;
  console_.Say(StrCat(report.name, " ended by ", report.Reason(), ", starting it again in ", backoff.count() / 1000.0, " s (",
                      restart.count, " of ", plan_.topology.teacher_max_restarts, ")"));
}

void Session::StartDueTeachers() {
  for (auto& [name, restart] : restarts_) {
    if (!restart.due || Clock::now() < *restart.due) continue;
    restart.due.reset();
    if (!supervisor_.Running(name)) Start(name);
  }
}

void Session::ScaleTeachers(int count) {
  console_.Say(StrCat("scaling from ", teachers_wanted_, " to ", count, " teachers"));
  teachers_wanted_ = count;
  for (int i = 0; i < count; ++i) {
    const std::string name = StrCat("teacher.", i);
    if (!supervisor_.Running(name)) Start(name);
  }
  for (const std::string& name : supervisor_.Names()) {
    if (!IsTeacher(name) || std::stoi(name.substr(8)) < count) continue;
    retired_.insert(name);
    supervisor_.Signal(name, SIGTERM);  // it finishes what it computes, hands back the rest and leaves
  }
}

void Session::OnSignals() {
  if (signals_seen <= signals_handled_) return;
  signals_handled_ = signals_seen;
  if (signals_handled_ > 1 || !control_) {
    console_.Say("killing all processes; `up` resumes from the last checkpoint");
    supervisor_.StopAll(std::chrono::milliseconds(0));
    signals_handled_ = 2;
    return;
  }
  console_.Say("draining: this step is finished and checkpointed (once more: kill)");
  Envelope drain;
  drain.kind = wire::Kind::Drain;
  control_->Send(drain);
}

bool Session::ConnectToBroker() {
  if (control_ || !supervisor_.Running("broker")) return control_ != nullptr;
  try {
    const NodeIdentity identity{"launcher", ExperimentDigest(plan_.experiment), epoch_};
    control_ = std::make_unique<Client>(plan_.topology.control_endpoint, identity, Envelope{}, kConnectPatience);
  } catch (const Error&) {
    return false;  // not up yet; its own failure ends it and is reported then
  }
  return true;
}

void Session::TalkToBroker() {
  if (Clock::now() < next_status_ || !ConnectToBroker()) return;
  next_status_ = Clock::now() + kStatusPeriod;
  Envelope request;
  request.kind = wire::Kind::StatusRequest;
  control_->Send(request);
  while (const auto message = control_->Receive(std::chrono::milliseconds(50))) {
    if (message->kind == wire::Kind::Status) {
      console_.Progress(message->text);
      break;
    }
    if (message->kind == wire::Kind::Scale) ScaleTeachers(message->count);
  }
}

void Session::RollBack() {
  supervisor_.StopAll(kStopGrace);
  const RunFolder folder{plan_.topology.run_folder};
  std::vector<std::string> all = RollbacksOf(folder);
  all.push_back(roll_back_->name + ": " + (roll_back_->last_lines.empty() ? "" : roll_back_->last_lines.back()));
  std::string text;
  for (const std::string& line : all) text += line + "\n";
  WriteFileAtomically(folder.Rollbacks(), text);
  roll_back_.reset();
  failures_.clear();
  control_.reset();
  restarts_.clear();
  epoch_ = NextEpoch(folder.root);
  console_.Say(StrCat("going back to the last checkpoint with new draws (", all.size(), " of ", kMaxRollbacks, "): ", all.back()));
  for (const auto& [name, command] : RunCommands(plan_, epoch_, options_.replay, programs_)) supervisor_.Start(name, command);
}

int Session::Fail() {
  // What a failure drags down ends within moments; the process that a signal ended, or else the first, is the cause.
  const auto until = Clock::now() + kGatherFailures;
  while (Clock::now() < until) {
    for (const ExitReport& report : supervisor_.Poll(std::chrono::milliseconds(50))) {
      if (!IsTeacher(report.name) && report.code != 0) failures_.push_back(report);
    }
  }
  supervisor_.StopAll(kStopGrace);
  const auto by_signal = std::find_if(failures_.begin(), failures_.end(), [](const auto& f) { return f.signal != 0; });
  const ExitReport& cause = by_signal != failures_.end() ? *by_signal : failures_.front();
  console_.Say(StrCat(cause.name, " failed with ", cause.Reason(), "; all other processes were stopped. Its last lines:"));
  for (const std::string& line : cause.last_lines) console_.Say("  " + line);
  console_.Say(StrCat("whole log: ", (RunFolder{plan_.topology.run_folder}.Logs() / (cause.name + ".log")).string()));
  if (cause.code == kExitRollBack) {
    console_.Say("The run went back to a checkpoint twice before and training diverged again. Lower the learning rates or lambda, "
                 "add warmup_steps, or raise score_sigma_min; what was tried:");
    for (const std::string& line : RollbacksOf({plan_.topology.run_folder})) console_.Say("  " + line);
  }
  console_.Say("`up` resumes from the last checkpoint");
  return cause.signal != 0 ? 1 : cause.code;
}

int Session::End() {
  if (signals_handled_ > 1) return 130;
  if (signals_handled_ == 1) console_.Say("drained and checkpointed; `up` resumes");
  console_.Say(StrCat("student in ", RunFolder{plan_.topology.run_folder}.Student().string()));
  return 0;
}

}  // namespace sgmd
