#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <thread>

#include "common/error/error.h"
#include "common/error/text.h"
#include "common/log/log.h"
#include "launch/plan/memory_plan.h"
#include "launch/plan/plan_text.h"
#include "launch/plan/slurm_script.h"
#include "launch/run/console.h"
#include "launch/run/further_host.h"
#include "launch/run/run_control.h"
#include "launch/run/session.h"

namespace {

struct Options {
  std::filesystem::path target;  // topology file or run folder
  std::string run_folder, host, emit, time_limit = "24:00:00", scale, process;
  bool quiet = false, fresh = false, now = false, follow = false, no_weights = false, allow_oversize = false;
  int lines = 40;
};

std::filesystem::path ProgramFolder() {
  if (const char* folder = std::getenv("SGMD_BIN_DIR")) return folder;
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

constexpr int kExitDoesNotFit = 2;

sgmd::RequiredFiles FilesNeeded(const Options& o) {
  return o.no_weights ? sgmd::RequiredFiles::kConfig : sgmd::RequiredFiles::kAll;
}

sgmd::LaunchPlan PlanOf(const Options& o, bool replay) {
  sgmd::LaunchPlan plan = std::filesystem::is_directory(o.target) ? sgmd::LoadRun(o.target)
                                                                  : sgmd::LoadLaunchPlan(o.target, FilesNeeded(o));
  if (o.run_folder.empty() && !replay) return plan;
  sgmd::Topology& topology = plan.topology;
  topology.run.folder = o.run_folder.empty() ? std::filesystem::path(topology.run.folder.string() + "-replay")
                                             : std::filesystem::absolute(o.run_folder);
  if (!replay && !topology.run.hosts.empty())
    return plan;                            // endpoints and cache are places of the hosts, not of the folder
  if (!replay) topology.cache.folder = "";  // a replay keeps the cache of the original run
  topology = sgmd::OnOneHost(topology);
  return plan;
}

// Which of the topology's hosts this is.
std::string HostOfThis(const Options& o, const sgmd::Topology& topology) {
  for (const std::string& host : topology.run.hosts) {
    if (host == o.host) return host;
  }
  if (topology.run.hosts.empty() && o.host.empty()) return "";
  if (topology.run.hosts.empty()) {
    throw sgmd::Error("--host " + o.host + ", but the topology names no hosts", o.target.string(),
                      "[run] hosts = [...]");
  }
  throw sgmd::Error(o.host.empty() ? "which of the topology's hosts is this?" : "the topology has no host " + o.host,
                    o.target.string(), "--host, one of: " + sgmd::Joined(topology.run.hosts, ", "));
}

// How Slurm starts a host.
std::vector<std::string> UpCommand(const Options& o) {
  namespace fs = std::filesystem;
  std::vector<std::string> command{ProgramFolder() / "sgmd-launch", "up", fs::absolute(o.target)};
  if (!o.run_folder.empty()) command.insert(command.end(), {"--run-folder", fs::absolute(o.run_folder)});
  return command;
}

int Plan(const Options& o) {
  const sgmd::LaunchPlan plan = PlanOf(o, false);
  const sgmd::WanConfig config = sgmd::ConfigOfModel(plan.experiment.model.teacher);
  const double machine = sgmd::MachineMemory();
  const std::string advice = sgmd::OversizeAdvice(plan, config, machine);
  const bool refused = !advice.empty() && !o.allow_oversize;
  if (!o.emit.empty()) {
    std::cerr << advice;
    if (refused) return kExitDoesNotFit;
    std::cout << sgmd::SlurmScript(plan, UpCommand(o), o.time_limit);
  } else {
    std::cout << sgmd::PlanText(plan, sgmd::ReadRunStart({plan.topology.run.folder}).epoch + 1, ProgramFolder(), FilesNeeded(o))
              << sgmd::MemoryTable(sgmd::PlanMemory(plan, config, machine)) << advice;
  }
  return refused ? kExitDoesNotFit : 0;
}

// What to say instead of starting a run that the devices have no memory for; a replay has no teachers.
std::string Refusal(const Options& o, sgmd::LaunchPlan plan, bool replay) {
  if (o.allow_oversize) return "";
  if (replay) plan.topology.teacher.replicas = 0;
  const sgmd::WanConfig config = sgmd::ConfigOfModel(plan.experiment.model.teacher);
  const double machine = sgmd::MachineMemory();
  const std::string advice = sgmd::OversizeAdvice(plan, config, machine);
  if (advice.empty()) return "";
  return sgmd::StrCat(sgmd::MemoryTable(sgmd::PlanMemory(plan, config, machine)), advice,
                      "nothing was started; --allow-oversize starts it all the same\n");
}

int Up(const Options& o, bool replay) {
  const sgmd::LaunchPlan plan = PlanOf(o, replay);
  const std::string host = HostOfThis(o, plan.topology);
  const bool head = host.empty() || host == plan.topology.run.hosts.front();
  const auto checkpoints = sgmd::RunFolder{plan.topology.run.folder}.Checkpoints();
  if (o.fresh && head && std::filesystem::exists(checkpoints)) {
    throw sgmd::Error("--fresh, but the folder holds checkpoints", checkpoints.string(),
                      "remove it or choose another with --run-folder");
  }
  if (!replay && plan.topology.teacher.replicas == 0) {
    throw sgmd::Error("[teacher] replicas = 0", o.target.string(), "a run without teachers is a replay");
  }
  if (const std::string refusal = Refusal(o, plan, replay); !refusal.empty()) {
    std::cerr << refusal;
    return kExitDoesNotFit;
  }
  const sgmd::SessionOptions options{host, replay, o.quiet};
  return head ? sgmd::Session(plan, options, ProgramFolder()).Run()
              : sgmd::FurtherHost(plan, options, ProgramFolder()).Run();
}

int Status(const Options& o) {
  const auto run = sgmd::FindRunFolder(o.target);
  const auto client = sgmd::ConnectToRun(run);
  std::cout << "run        " << run.string() << "\n" << sgmd::StatusTable(sgmd::RequestStatus(*client));
  return 0;
}

int Scale(const Options& o) {
  int count = -1;
  if (std::sscanf(o.scale.c_str(), "teacher=%d", &count) != 1 || count < 1) {
    throw sgmd::Error("cannot scale by \"" + o.scale + "\"", {}, "such as teacher=3, at least 1");
  }
  const auto client = sgmd::ConnectToRun(sgmd::FindRunFolder(o.target));
  client->Send(sgmd::ToEnvelope(sgmd::message::Scale{count}));
  const auto answer = client->Receive(std::chrono::seconds(5));
  const std::string problem =
      answer ? sgmd::FromEnvelope<sgmd::message::Scaled>(*answer).problem : "the broker does not answer";
  if (!problem.empty()) throw sgmd::Error("the run cannot be scaled: " + problem);
  std::cout << "scaling to " << count << " teachers\n";
  return 0;
}

int Down(const Options& o) {
  const auto run = sgmd::FindRunFolder(o.target);
  const auto holder = sgmd::RunLock::HolderOf(run);
  if (!holder)
    throw sgmd::Error("no run is up in this folder", run.string(), "start it with sgmd-launch up <topology.toml>");
  if (holder->machine == sgmd::RunLock::ThisMachine()) {
    ::kill(holder->pid, SIGTERM);
    if (o.now) ::kill(holder->pid, SIGINT);  // the second; two of a kind at once would count as one
  } else if (o.now) {
    throw sgmd::Error("the run is up on " + holder->machine, run.string(),
                      "--now works there alone; without it, from here too");
  } else {
    sgmd::ConnectToRun(run)->Send(sgmd::ToEnvelope(sgmd::message::Drain{}));
  }
  std::cout << (o.now ? "killing" : "draining: waiting for the step and the checkpoint") << std::flush;
  while (sgmd::RunLock::HolderOf(run)) {
    std::cout << "." << std::flush;
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  std::cout << " down\n";
  return 0;
}

int Logs(const Options& o) {
  const auto folder = sgmd::RunFolder{sgmd::FindRunFolder(o.target)}.Logs();
  std::vector<std::string> command{"tail", "-n", std::to_string(o.lines)};
  if (o.follow) command.emplace_back("-F");
  if (!std::filesystem::is_directory(folder)) throw sgmd::Error("no logs", folder.string());
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (o.process.empty() || entry.path().stem() == o.process) command.push_back(entry.path().string());
  }
  if (command.size() == (o.follow ? 4U : 3U))
    throw sgmd::Error("no log of process \"" + o.process + "\"", folder.string());
  std::vector<char*> arguments;
  for (std::string& part : command) arguments.push_back(part.data());
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  sgmd::ThrowErrno("cannot run", "tail");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Runs a distillation: broker, fake score, generator and teachers, from one topology file.\n\n"
      "  sgmd-launch plan   topology.toml             check everything, start nothing\n"
      "  sgmd-launch up     topology.toml             start, or resume from the last checkpoint\n"
      "  sgmd-launch scale  topology.toml teacher=3   more or fewer teachers while it runs\n"
      "  sgmd-launch replay topology.toml             the same run from cached scores, without a teacher"};
  app.require_subcommand(1);
  Options o;
  const auto add = [&](const char* name, const char* help) {
    CLI::App* command = app.add_subcommand(name, help);
    command->add_option("topology", o.target, "Topology file, or the folder of a run")
        ->required()
        ->check(CLI::ExistingPath);
    return command;
  };
  CLI::App* plan = add("plan", "Validate and show what would run");
  plan->add_option("--emit", o.emit, "Print a job script that starts the run")->check(CLI::IsMember({"slurm"}));
  plan->add_option("--time", o.time_limit, "Time limit of the job, as sbatch takes it")->capture_default_str();
  plan->add_flag("--no-weights", o.no_weights, "Plan a model of which only config.json is here");
  plan->add_flag("--allow-oversize", o.allow_oversize,
                 "Exit with 0, not 2, where the devices' memory does not suffice");
  CLI::App* up = add("up", "Start the run or resume it; Ctrl-C drains and checkpoints, a second one kills");
  up->add_flag("--fresh", o.fresh, "Refuse to resume: the run folder must hold no checkpoint");
  up->add_option("--host", o.host, "Which of the topology's hosts this is: only its processes are started here");
  CLI::App* replay = add("replay", "Run the recorded experiment again from the score cache; needs no teacher");
  for (CLI::App* command : {plan, up, replay}) {
    command->add_option("--run-folder", o.run_folder, "Run here instead of in the topology's folder");
  }
  for (CLI::App* command : {up, replay}) {
    command->add_flag("--quiet", o.quiet, "Progress only; process output goes to the logs");
    command->add_flag("--allow-oversize", o.allow_oversize, "Start also where the devices' memory does not suffice");
  }
  CLI::App* status = add("status", "Show the live run");
  CLI::App* scale = add("scale", "Change the number of teachers of the live run");
  scale->add_option("count", o.scale, "teacher=N")->required();
  CLI::App* down = add("down", "Drain, checkpoint and end the live run");
  down->add_flag("--now", o.now, "Kill instead; the next up resumes from the last checkpoint");
  CLI::App* logs = add("logs", "Show the processes' logs");
  logs->add_option("process", o.process, "broker, generator, fake_score or teacher.N (default: all)");
  logs->add_option("-n,--lines", o.lines, "Lines of each")->capture_default_str();
  logs->add_flag("-f,--follow", o.follow, "Go on as they grow");
  CLI11_PARSE(app, argc, argv);
  return sgmd::RunGuarded("sgmd-launch", [&] {
    sgmd::InitLog("launch", sgmd::LogLevel::kWarning);
    if (plan->parsed()) return Plan(o);
    if (up->parsed() || replay->parsed()) return Up(o, replay->parsed());
    if (status->parsed()) return Status(o);
    if (scale->parsed()) return Scale(o);
    if (down->parsed()) return Down(o);
    return Logs(o);
  });
}
