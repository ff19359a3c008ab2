#include "launch/run/host_processes.h"

#include <algorithm>
#include <csignal>

#include "common/error/error.h"
#include "common/failpoint/failpoint.h"

namespace sgmd {
namespace {

constexpr std::chrono::seconds kLinger{10}, kEvaluatorAtEnd{600}, kEvaluatorAfterDrain{60};
constexpr std::chrono::milliseconds kOrderlyEnd{3000}, kTimeForStacks{1000};
const std::string kEvaluator = Spell(Role::kEvaluator);

}  // namespace

HostProcesses::HostProcesses(LaunchPlan plan, SessionOptions options, std::filesystem::path programs, Console* console)
    : plan_(std::move(plan)),
      options_(std::move(options)),
      programs_(std::move(programs)),
      console_(console),
      supervisor_(RunFolder{plan_.topology.run.folder}.Logs(),
                  [console](const std::string& name, const std::string& line) { console->ProcessLine(name, line); }),
      budget_(plan_.topology.restart) {}

void HostProcesses::StartAll(std::uint64_t epoch) {
  epoch_ = epoch;
  due_.clear();
  stalls_ = {};
  hung_.clear();
  retired_.clear();
  said_waiting_ = false;
  StartTrace();
  for (const RunCommand& command : CommandsHere()) supervisor_.Start(command.name, command.words, command.env);
}

std::vector<RunCommand> HostProcesses::CommandsHere() const {
  std::vector<RunCommand> commands = RunCommands(plan_, epoch_, options_.replay, programs_);
  std::erase_if(commands, [&](const RunCommand& command) { return command.place.host != options_.host; });
  if (options_.trace.empty()) return commands;
  for (RunCommand& command : commands) command.env["SGMD_TRACE"] = options_.trace;
  return commands;
}

// The head puts it together; with a run folder that all hosts share, from the files of all.
void HostProcesses::StartTrace() {
  if (options_.trace.empty() || options_.host != HostsOf(plan_.topology).front()) return;
  std::vector<std::string> recorded;
  for (const RunCommand& command : CommandsHere()) {
    if (command.name != kEvaluator) recorded.push_back(FileNameOf(command.name));
  }
  const RunFolder folder{plan_.topology.run.folder};
  trace_.emplace(folder.Traces(), folder.Trace(), std::move(recorded));
}

// Nobody trains for the sake of a picture.
void HostProcesses::CollectTrace(bool at_end) {
  if (!trace_) return;
  try {
    for (const std::string& line : trace_->Poll(at_end)) console_->Say(line);
  } catch (const Error& error) {
    console_->Say(StrCat("there is no trace: ", error.message(), " (", error.where(), ")"));
  }
}

std::vector<ExitReport> HostProcesses::Poll(std::chrono::milliseconds timeout) {
  failpoint::Hit("launcher.poll");
  KillHung();
  CollectTrace(/*at_end=*/false);
  std::vector<ExitReport> ended = supervisor_.Poll(timeout);
  for (ExitReport& report : ended) {
    if (const auto hung = hung_.extract(report.name)) report.last_lines.push_back("error: " + hung.mapped().why);
  }
  const auto evaluator =
      std::find_if(ended.begin(), ended.end(), [](const auto& report) { return report.name == kEvaluator; });
  if (evaluator == ended.end()) return ended;
  if (evaluator->code != 0) {
    console_->Say(StrCat("evaluator ended by ", evaluator->Reason(), "; training goes on without it. Its last lines:"));
    for (const std::string& line : evaluator->last_lines) console_->Say("  " + line);
  }
  ended.erase(evaluator);
  return ended;
}

void HostProcesses::OnStatus(const std::string& status_json) {
  for (const StallWatch::Stalled& stalled : stalls_.OnStatus(status_json)) EndHung(stalled.name, stalled.why);
}

void HostProcesses::EndHung(const std::string& name, const std::string& why) {
  if (!supervisor_.Running(name) || hung_.contains(name)) return;
  const std::string log = RunFolder{plan_.topology.run.folder}.LogOf(name).string();
  console_->Say(StrCat(name, " ", why, ": it is ended"));
  supervisor_.Signal(name, SIGUSR1);
  hung_[name] = {StrCat(why, "; its stack is in ", log), Clock::now() + kTimeForStacks};
}

void HostProcesses::KillHung() {
  for (const auto& [name, hung] : hung_) {
    if (Clock::now() >= hung.kill_at) supervisor_.Signal(name, SIGKILL);
  }
}

bool HostProcesses::PlanRestart(const ExitReport& teacher) {
  if (retired_.erase(teacher.name) > 0) return true;
  const auto attempt = budget_.OnEnd(teacher.name);
  if (!attempt) return teacher.code == 0;
  due_[teacher.name] = Clock::now() + (teacher.code == 0 ? std::max(attempt->delay, kOrderlyEnd) : attempt->delay);
  if (teacher.code != 0) {
    console_->Say(StrCat(teacher.name, " ended by ", teacher.Summary(), ", starting it again in ",
                         attempt->delay.count() / 1000.0, " s (", attempt->number, " of ",
                         plan_.topology.restart.attempts, ")"));
  }
  return true;
}

void HostProcesses::StartDueTeachers() {
  for (auto it = due_.begin(); it != due_.end();) {
    if (Clock::now() < it->second) {
      ++it;
      continue;
    }
    const auto commands = CommandsHere();
    const auto command = std::ranges::find(commands, it->first, &RunCommand::name);  // not there: fewer are wanted
    if (command != commands.end() && !supervisor_.Running(it->first)) {
      console_->Say(StrCat("starting ", it->first, " again"));
      supervisor_.Start(it->first, command->words, command->env);
    }
    it = due_.erase(it);
  }
}

void HostProcesses::Scale(int count) {
  if (count != plan_.topology.teacher.replicas) {
    console_->Say(StrCat("scaling from ", plan_.topology.teacher.replicas, " to ", count, " teachers"));
  }
  plan_.topology.teacher.replicas = count;
  for (const RunCommand& command : CommandsHere()) {
    if (command.place.node.role == Role::kTeacher && !supervisor_.Running(command.name))
      supervisor_.Start(command.name, command.words, command.env);
  }
  for (const std::string& name : supervisor_.Names()) {
    const auto node = ParseNodeName(name);
    if (!node || node->role != Role::kTeacher || node->replica < count) continue;
    retired_.insert(name);
    supervisor_.Signal(name, SIGTERM);  // it finishes what it computes, hands back the rest and leaves
  }
}

bool HostProcesses::OnlyEvaluatorLeft() const { return supervisor_.Names() == std::vector<std::string>{kEvaluator}; }

bool HostProcesses::MayLinger(Clock::time_point since, bool drained) {
  const bool evaluating = OnlyEvaluatorLeft();
  const std::chrono::seconds patience = !evaluating ? kLinger : drained ? kEvaluatorAfterDrain : kEvaluatorAtEnd;
  const bool may = Clock::now() - since <= patience;
  if (evaluating && may && !said_waiting_) {
    console_->Say(StrCat("training has ended; waiting for the evaluator to measure the last checkpoint, at most ",
                         patience.count(), " s (Ctrl-C ends it)"));
    said_waiting_ = true;
  }
  if (evaluating && !may) {
    console_->Say(StrCat("the evaluator was ended after ", patience.count(),
                         " s; to measure what it left: ", (programs_ / "sgmd-evaluator").string(), " --run ",
                         plan_.topology.run.folder.string(), " --every-checkpoint"));
  }
  return may;
}

}  // namespace sgmd
