// What is said to a run that is up, and to its logs.
#include <unistd.h>

#include <csignal>
#include <iostream>
#include <thread>

#include "common/error/error.h"
#include "launch/run/console.h"
#include "launch/run/run_control.h"
#include "launch/verbs.h"

namespace sgmd {

int StatusVerb(const LaunchOptions& o) {
  const auto run = FindRunFolder(o.target);
  const auto client = ConnectToRun(run);
  std::cout << "run        " << run.string() << "\n" << StatusTable(RequestStatus(*client));
  return 0;
}

int ScaleVerb(const LaunchOptions& o) {
  int count = -1;
  if (std::sscanf(o.scale.c_str(), "teacher=%d", &count) != 1 || count < 1) {
    throw Error("\"" + o.scale + "\" does not say how many teachers are wanted", {}, "such as teacher=3, at least 1");
  }
  const auto client = ConnectToRun(FindRunFolder(o.target));
  client->Send(ToEnvelope(message::Scale{count}));
  const auto answer = client->Receive(std::chrono::seconds(5));
  const std::string problem = answer ? FromEnvelope<message::Scaled>(*answer).problem : "the broker does not answer";
  if (!problem.empty()) throw Error("the run was not scaled: " + problem);
  std::cout << "scaling to " << count << " teachers\n";
  return 0;
}

int DownVerb(const LaunchOptions& o) {
  const auto run = FindRunFolder(o.target);
  const auto holder = RunLock::HolderOf(run);
  if (!holder) throw Error("no run is up in this folder", run.string(), "start it with sgmd-launch up <topology.toml>");
  if (holder->machine == RunLock::ThisMachine()) {
    ::kill(holder->pid, o.now ? SIGQUIT : SIGTERM);
  } else if (o.now) {
    throw Error("the run is up on " + holder->machine, run.string(), "run it there with --now, or here without");
  } else {
    ConnectToRun(run)->Send(ToEnvelope(message::Drain{}));
  }
  std::cout << (o.now ? "killing" : "draining: waiting for the step and the checkpoint") << std::flush;
  while (RunLock::HolderOf(run)) {
    std::cout << "." << std::flush;
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  std::cout << " down\n";
  return 0;
}

int LogsVerb(const LaunchOptions& o) {
  const auto folder = RunFolder{FindRunFolder(o.target)}.Logs();
  std::vector<std::string> command{"tail", "-n", std::to_string(o.lines)};
  if (o.follow) command.emplace_back("-F");
  if (!std::filesystem::is_directory(folder)) throw Error("this run has no logs yet", folder.string());
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (o.process.empty() || entry.path().stem() == o.process) command.push_back(entry.path().string());
  }
  if (command.size() == (o.follow ? 4U : 3U))
    throw Error("this run has no process \"" + o.process + "\" with a log", folder.string());
  std::vector<char*> arguments;
  for (std::string& part : command) arguments.push_back(part.data());
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  ThrowErrno("cannot run", "tail");
}

}  // namespace sgmd
