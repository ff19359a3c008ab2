// How a run stands: status, wait, history, ps.
#include <unistd.h>

#include <iostream>
#include <memory>

#include "common/metrics/progress.h"
#include "launch/run/exit_codes.h"
#include "launch/state/live_runs.h"
#include "launch/state/run_state.h"
#include "launch/state/state_text.h"
#include "launch/verbs/verb_words.h"
#include "launch/verbs/verbs.h"

namespace sgmd {
namespace {

struct StatusOptions {
  std::filesystem::path target;
  bool json = false, watch = false;
};

// Draws anew on a terminal; elsewhere a line for each change.
int Watch(const std::filesystem::path& run, bool json) {
  const bool terminal = ::isatty(STDOUT_FILENO) != 0 && !json;
  std::string last;
  const auto code = FollowToTheEnd(run, [&](const RunState& state) {
    const std::string key = StateLine(state);
    if (terminal) std::cout << "\x1b[H\x1b[J" << StateTable(state) << std::flush;
    if (!terminal && key != last) std::cout << (json ? ToJson(state).dump() : StateLine(state)) << std::endl;
    last = key;
  });
  return *code;
}

int Status(const StatusOptions& o) {
  const auto run = FindRunFolder(o.target);
  if (o.watch) return Watch(run, o.json);
  const RunState state = RunWatch(run).Now();
  std::cout << (o.json ? ToJson(state).dump(2) + "\n" : StateTable(state));
  return 0;
}

int Wait(const std::filesystem::path& target, double timeout) {
  std::unique_ptr<ProgressLine> line;
  RunState last;
  const auto limit = timeout > 0 ? std::optional(std::chrono::duration<double>(timeout)) : std::nullopt;
  const auto code = FollowToTheEnd(
      FindRunFolder(target),
      [&](const RunState& state) {
        last = state;
        if (!state.up()) return;
        if (!line) line = std::make_unique<ProgressLine>(state.folder.filename().string(), state.steps);
        line->Update(state.step, state.state);
      },
      limit);
  line.reset();
  std::cout << StateLine(last) << "\n" << (code ? "" : "the time of --timeout is over; the run goes on\n");
  return code.value_or(kExitTimeout);
}

int History(const std::filesystem::path& target) {
  const auto records = ReadHistory(FindRunFolder(target));
  if (records.empty()) std::cout << "this run was never started\n";
  for (const RunRecord& record : records) {
    std::cout << record.time << "  start " << record.epoch << " from step " << record.from_step << ", process "
              << record.pid << " on " << record.machine << "\n";
    for (const RunRestart& restart : record.restarts) {
      std::cout << restart.time << "    " << restart.process << " ended by " << restart.cause << ": "
                << (restart.from_step ? "all went on from step " + std::to_string(*restart.from_step)
                                      : "it was started again")
                << "\n";
    }
    if (!record.end) continue;
    std::cout << record.end->time << "    " << Spell(record.end->outcome) << " at step " << record.end->step
              << ", exit code " << record.end->exit_code << (record.end->cause.empty() ? "" : ": ") << record.end->cause
              << "\n";
  }
  const auto last = LastOutcome(FindRunFolder(target));
  if (last && last->time.empty()) std::cout << "without an end: " << last->cause << "\n";
  return 0;
}

// A launcher of another verb has the lock open for a moment, too.
std::vector<std::pair<LiveLauncher, RunState>> LiveRuns() {
  std::vector<std::pair<LiveLauncher, RunState>> runs;
  for (const LiveLauncher& launcher : LiveLaunchers()) {
    RunState state = RunWatch(launcher.run_folder).Now();
    const bool head = state.up() && state.holder->pid == launcher.pid;
    if (head || !launcher.host.empty()) runs.emplace_back(launcher, std::move(state));
  }
  return runs;
}

int Ps(bool json) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  if (!json) std::printf("%8s  %-9s %-17s %-28s %-20s  %s\n", "process", "state", "step", "pace", "since (UTC)", "run");
  for (const auto& [launcher, state] : LiveRuns()) {
    nlohmann::ordered_json object = ToJson(state);
    object["pid"] = launcher.pid;
    object["host"] = launcher.host;
    list.push_back(std::move(object));
    if (json) continue;
    const std::string step = std::to_string(state.step) + " of " + std::to_string(state.steps);
    const std::string host = launcher.host.empty() ? "" : " (host " + launcher.host + ")";
    std::printf("%8d  %-9s %-17s %-28s %-20s  %s%s\n", launcher.pid, state.state.c_str(), step.c_str(),
                PaceText(state).c_str(), state.since.c_str(), state.folder.c_str(), host.c_str());
  }
  if (json) std::cout << list.dump(2) << "\n";
  return 0;
}

}  // namespace

Verb StatusVerb(CLI::App& app) {
  CLI::App* verb = AddVerb(app, "status", "Show how a run stands, or how it ended and what to type next",
                           "status runs/demo\n"
                           "status runs/demo --watch\n"
                           "status runs/demo --json | jq .step");
  const auto o = std::make_shared<StatusOptions>();
  AddTarget(*verb, o->target);
  verb->add_flag("--json", o->json, "One JSON object, with the same keys for every run (launch/README.md)");
  verb->add_flag("--watch", o->watch, "Go on until the run ends, then exit with its exit code");
  return {verb, [o] { return Status(*o); }};
}

Verb WaitVerb(CLI::App& app) {
  CLI::App* verb = AddVerb(app, "wait", "Wait until a run ends, and exit with its exit code",
                           "wait runs/demo && sgmd-export runs/demo --original student.safetensors\n"
                           "wait runs/demo --timeout 3600");
  const auto target = std::make_shared<std::filesystem::path>();
  const auto timeout = std::make_shared<double>(0);
  AddTarget(*verb, *target);
  verb->add_option("--timeout", *timeout, "Seconds after which it exits with 124, whatever the run does")
      ->check(CLI::PositiveNumber);
  return {verb, [=] { return Wait(*target, *timeout); }};
}

Verb HistoryVerb(CLI::App& app) {
  CLI::App* verb = AddVerb(app, "history", "List the starts, restarts and ends of a run", "history runs/demo");
  const auto target = std::make_shared<std::filesystem::path>();
  AddTarget(*verb, *target);
  return {verb, [target] { return History(*target); }};
}

Verb PsVerb(CLI::App& app) {
  CLI::App* verb =
      AddVerb(app, "ps", "List the runs that are up on this machine", "ps\nps --json | jq '.[].run_folder'");
  const auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "An array of what `status --json` prints, with the launcher's pid and host");
  return {verb, [json] { return Ps(*json); }};
}

}  // namespace sgmd
