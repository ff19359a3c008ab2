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
  Start(CommandsHere());
}

void HostProcesses::Start(std::vector<RunCommand> commands) {
  const std::string attempt = std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
  for (RunCommand& command : commands) {
    if (RanksOf(plan_.topology, command.place.node) > 1)
      command.words.insert(command.words.end(), {"--attempt", attempt});
    supervisor_.Start(command.name, command.words, command.env);
  }
}

std::vector<RunCommand> HostProcesses::CommandsHere() const {
  std::vector<RunCommand> commands = RunCommands(plan_, epoch_, options_.replay, programs_);
  std::erase_if(commands, [&](const RunCommand& command) { return command.place.host != options_.host; });
  if (options_.trace.empty()) return commands;
  for (RunCommand& command : commands) command.env["SGMD_TRACE"] = options_.trace;
  return commands;
}

std::vector<RunCommand> HostProcesses::CommandsOf(const std::string& teacher) const {
  std::vector<RunCommand> commands = CommandsHere();
  std::erase_if(commands, [&](const RunCommand& command) { return SpeakerOf(command.name) != teacher; });
  return commands;
}

bool HostProcesses::AnyRuns(const std::vector<RunCommand>& commands) const {
  return std::ranges::any_of(commands, [&](const RunCommand& command) { return supervisor_.Running(command.name); });
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
  std::ranges::stable_partition(ended, [](const ExitReport& report) { return report.code != kExitGroupLost; });
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
  const std::string group = SpeakerOf(teacher.name);
  if (retired_.erase(teacher.name) > 0) {
    if (!CommandsOf(group).empty()) due_.try_emplace(group, Clock::now());  // it is wanted again
    return true;
  }
  if (due_.contains(group)) return true;  // another rank has ended
  if (teacher.code != 0) {
    for (const RunCommand& rank : CommandsOf(group)) supervisor_.Signal(rank.name, SIGKILL);
  }
  const auto attempt = budget_.OnEnd(group);
  if (!attempt) return teacher.code == 0;
  due_[group] = Clock::now() + (teacher.code == 0 ? std::max(attempt->delay, kOrderlyEnd) : attempt->delay);
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
    const std::vector<RunCommand> commands = CommandsOf(it->first);  // none: fewer teachers are wanted
    if (AnyRuns(commands)) {                                         // a rank of a group that is about to end
      ++it;
      continue;
    }
    if (!commands.empty()) console_->Say(StrCat("starting ", it->first, " again"));
    Start(commands);
    it = due_.erase(it);
  }
}

void HostProcesses::Scale(int count) {
  if (count != plan_.topology.teacher.replicas) {
    console_->Say(StrCat("scaling from ", plan_.topology.teacher.replicas, " to ", count, " teachers"));
  }
  plan_.topology.teacher.replicas = count;
  for (int replica = 0; replica < count; ++replica) {
    const std::string teacher = Spell(NodeName{Role::kTeacher, replica});
    const std::vector<RunCommand> commands = CommandsOf(teacher);
    if (AnyRuns(commands)) continue;
    Start(commands);
    due_.erase(teacher);
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
