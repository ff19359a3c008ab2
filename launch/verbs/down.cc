// Ending a run that is up.
#include <unistd.h>

#include <csignal>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/error/error.h"
#include "launch/run/run_control.h"
#include "launch/verbs/verb_words.h"
#include "launch/verbs/verbs.h"

namespace sgmd {
namespace {

// Empty where the run goes on, or nobody can say.
std::string WaitingFor(const std::filesystem::path& run) {
  try {
    return nlohmann::json::parse(RequestStatus(*ConnectToRun(run))).value("waiting_for", "");
  } catch (const Error&) {
    return "";  // it has ended by now, or its broker is between two starts
  }
}

int Down(const std::filesystem::path& target, bool now) {
  const auto run = FindRunFolder(target);
  const auto holder = RunLock::HolderOf(run);
  if (!holder) throw Error("no run is up in this folder", run.string(), "start it with sgmd-launch up <topology.toml>");
  std::unique_ptr<Client> drainer;  // it says so until the broker has it
  if (holder->machine == RunLock::ThisMachine()) {
    ::kill(holder->pid, now ? SIGQUIT : SIGTERM);
  } else if (now) {
    throw Error("the run is up on " + holder->machine, run.string(), "run it there with --now, or here without");
  } else {
    drainer = ConnectToRun(run);
    drainer->Send(ToEnvelope(message::Drain{}));
  }
  std::cout << (now ? "killing" : "draining: waiting for the step and the checkpoint") << std::flush;
  for (int second = 0; RunLock::HolderOf(run); ++second) {
    const std::string waiting = !now && second % 10 == 3 ? WaitingFor(run) : "";
    std::cout << (waiting.empty() ? "." : "\nthe run waits for " + waiting + "\n") << std::flush;
    if (drainer) {
      drainer->Receive(std::chrono::seconds(1));
    } else {
      std::this_thread::sleep_for(std::chrono::seconds(1));
    }
  }
  std::cout << " down\n";
  return 0;
}

}  // namespace

Verb DownVerb(CLI::App& app) {
  CLI::App* verb =
      AddVerb(app, "down", "Drain, checkpoint and end the live run", "down runs/demo\ndown runs/demo --now");
  const auto target = std::make_shared<std::filesystem::path>();
  const auto now = std::make_shared<bool>(false);
  AddTarget(*verb, *target);
  verb->add_flag("--now", *now, "Kill instead; the next up resumes from the last checkpoint");
  return {verb, [=] { return Down(*target, *now); }};
}

}  // namespace sgmd
