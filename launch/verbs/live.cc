// What is said to a run that is up: status, scale, down.
#include <unistd.h>

#include <csignal>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/error/error.h"
#include "launch/run/console.h"
#include "launch/run/run_control.h"
#include "launch/verbs/verb_words.h"
#include "launch/verbs/verbs.h"

namespace sgmd {
namespace {

int Status(const std::filesystem::path& target) {
  const auto run = FindRunFolder(target);
  const auto client = ConnectToRun(run);
  std::cout << "run        " << run.string() << "\n" << StatusTable(RequestStatus(*client));
  return 0;
}

int Scale(const std::filesystem::path& target, const std::string& wanted) {
  int count = -1;
  if (std::sscanf(wanted.c_str(), "teacher=%d", &count) != 1 || count < 1) {
    throw Error("\"" + wanted + "\" does not say how many teachers are wanted", {}, "such as teacher=3, at least 1");
  }
  const auto client = ConnectToRun(FindRunFolder(target));
  client->Send(ToEnvelope(message::Scale{count}));
  const auto answer = client->Receive(std::chrono::seconds(5));
  const std::string problem = answer ? FromEnvelope<message::Scaled>(*answer).problem : "the broker does not answer";
  if (!problem.empty()) throw Error("the run was not scaled: " + problem);
  std::cout << "scaling to " << count << " teachers\n";
  return 0;
}

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
  if (holder->machine == RunLock::ThisMachine()) {
    ::kill(holder->pid, now ? SIGQUIT : SIGTERM);
  } else if (now) {
    throw Error("the run is up on " + holder->machine, run.string(), "run it there with --now, or here without");
  } else {
    ConnectToRun(run)->Send(ToEnvelope(message::Drain{}));
  }
  std::cout << (now ? "killing" : "draining: waiting for the step and the checkpoint") << std::flush;
  for (int second = 0; RunLock::HolderOf(run); ++second) {
    const std::string waiting = !now && second % 10 == 3 ? WaitingFor(run) : "";
    std::cout << (waiting.empty() ? "." : "\nthe run waits for " + waiting + "\n") << std::flush;
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  std::cout << " down\n";
  return 0;
}

}  // namespace

Verb StatusVerb(CLI::App& app) {
  CLI::App* verb =
      AddVerb(app, "status", "Show the live run", "status launch/topologies/laptop.toml\nstatus runs/demo");
  const auto target = std::make_shared<std::filesystem::path>();
  AddTarget(*verb, *target);
  return {verb, [target] { return Status(*target); }};
}

Verb ScaleVerb(CLI::App& app) {
  CLI::App* verb = AddVerb(app, "scale", "Change the number of teachers of the live run", "scale runs/demo teacher=3");
  const auto target = std::make_shared<std::filesystem::path>();
  const auto count = std::make_shared<std::string>();
  AddTarget(*verb, *target);
  verb->add_option("count", *count, "teacher=N")->required();
  return {verb, [=] { return Scale(*target, *count); }};
}

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
