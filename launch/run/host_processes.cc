#include "launch/run/host_processes.h"

#include <algorithm>
#include <csignal>

#include "common/error/error.h"
#include "common/failpoint/failpoint.h"

namespace sgmd {
namespace {

constexpr std::chrono::seconds kLinger{10}, kEvaluatorAtEnd{600}, kEvaluatorAfterDrain{60};
constexpr std::chrono::milliseconds kFirstBackoff{500}, kLongestBackoff{8000};
const std::string kEvaluator = Spell(Role::kEvaluator);

}  // namespace

HostProcesses::HostProcesses(LaunchPlan plan, SessionOptions options, std::filesystem::path programs, Console* console)
    : plan_(std::move(plan)),
      options_(std::move(options)),
      programs_(std::move(programs)),
      console_(console),
      supervisor_(RunFolder{plan_.topology.run.folder}.Logs(),
                  [console](const std::string& name, const std::string& line) { console->ProcessLine(name, line); }) {}

void HostProcesses::StartAll(std::uint64_t epoch) {
  epoch_ = epoch;
  restarts_.clear();
  retired_.clear();
  said_waiting_ = false;
  for (const RunCommand& command : CommandsHere()) supervisor_.Start(command.name, command.words, command.env);
}

std::vector<RunCommand> HostProcesses::CommandsHere() const {
  std::vector<RunCommand> commands = RunCommands(plan_, epoch_, options_.replay, programs_);
  std::erase_if(commands, [&](const RunCommand& command) { return command.place.host != options_.host; });
  return commands;
}

std::vector<ExitReport> HostProcesses::Poll(std::chrono::milliseconds timeout) {
  failpoint::Hit("launcher.poll");
  std::vector<ExitReport> ended = supervisor_.Poll(timeout);
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

bool HostProcesses::PlanRestart(const ExitReport& teacher) {
  if (retired_.erase(teacher.name) > 0 || teacher.code == 0) return true;
  Restart& restart = restarts_[teacher.name];
  const std::int64_t allowed = plan_.topology.restart.attempts;
  if (++restart.count > allowed) return false;
  const auto backoff = std::min(kLongestBackoff, kFirstBackoff * (1 << std::min(restart.count - 1, 10)));
  restart.due = Clock::now() + backoff;
  console_->Say(StrCat(teacher.name, " ended by ", teacher.Reason(), ", starting it again in ",
                       backoff.count() / 1000.0, " s (", restart.count, " of ", allowed, ")"));
  return true;
}

void HostProcesses::StartDueTeachers() {
  for (auto& [name, restart] : restarts_) {
    if (!restart.due || Clock::now() < *restart.due) continue;
    restart.due.reset();
    const auto commands = CommandsHere();
    const auto command = std::ranges::find(commands, name, &RunCommand::name);  // not there: fewer are wanted by now
    if (command != commands.end() && !supervisor_.Running(name)) supervisor_.Start(name, command->words, command->env);
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
