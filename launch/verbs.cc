// Planning and starting runs.
#include "launch/verbs.h"

#include <iostream>
#include <optional>

#include "common/config/experiment_fields.h"
#include "common/config/field_text.h"
#include "common/config/topology_fields.h"
#include "common/error/error.h"
#include "common/error/text.h"
#include "launch/plan/disk_plan.h"
#include "launch/plan/memory_plan.h"
#include "launch/plan/plan_checks.h"
#include "launch/plan/plan_text.h"
#include "launch/plan/slurm_script.h"
#include "launch/plan/time_plan.h"
#include "launch/run/further_host.h"
#include "launch/run/run_control.h"
#include "launch/run/session.h"

namespace sgmd {
namespace {

std::filesystem::path ProgramFolder() {
  if (const char* folder = std::getenv("SGMD_BIN_DIR")) return folder;
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

RequiredFiles FilesNeeded(const LaunchOptions& o) {
  return o.no_weights ? RequiredFiles::kConfig : RequiredFiles::kAll;
}

LaunchPlan PlanOf(const LaunchOptions& o, bool replay) {
  const bool recorded = std::filesystem::is_directory(o.target);
  if (recorded && !o.overrides.empty()) {
    throw Error("--set changes what a topology and its experiment say, and this is the folder of a run",
                o.target.string(), "name the topology file");
  }
  LaunchPlan plan = recorded ? LoadRun(o.target) : LoadLaunchPlan(o.target, FilesNeeded(o), o.overrides);
  if (o.run_folder.empty() && !replay) return plan;
  Topology& topology = plan.topology;
  topology.run.folder = o.run_folder.empty() ? std::filesystem::path(topology.run.folder.string() + "-replay")
                                             : std::filesystem::absolute(o.run_folder);
  if (!replay && !topology.run.hosts.empty())
    return plan;                            // endpoints and cache are places of the hosts, not of the folder
  if (!replay) topology.cache.folder = "";  // a replay keeps the cache of the original run
  topology = OnOneHost(topology);
  return plan;
}

// Which of the topology's hosts this is.
std::string HostOfThis(const LaunchOptions& o, const Topology& topology) {
  for (const std::string& host : topology.run.hosts) {
    if (host == o.host) return host;
  }
  if (topology.run.hosts.empty() && o.host.empty()) return "";
  if (topology.run.hosts.empty()) {
    throw Error("--host " + o.host + " was given, and the topology names no hosts", o.target.string(),
                "[run] hosts = [...]");
  }
  throw Error(o.host.empty() ? "which of the topology's hosts is this?" : "the topology has no host " + o.host,
              o.target.string(), "--host, one of: " + Joined(topology.run.hosts, ", "));
}

// How Slurm starts a host.
std::vector<std::string> UpCommand(const LaunchOptions& o) {
  namespace fs = std::filesystem;
  std::vector<std::string> command{ProgramFolder() / "sgmd-launch", "up", fs::absolute(o.target)};
  if (!o.run_folder.empty()) command.insert(command.end(), {"--run-folder", fs::absolute(o.run_folder)});
  for (const std::string& text : o.overrides) command.insert(command.end(), {"--set", text});
  if (o.allow_oversize) command.emplace_back("--allow-oversize");
  return command;
}

// What to say instead of starting a run that the devices have no memory for; a replay has no teachers.
std::string Refusal(const LaunchOptions& o, LaunchPlan plan, bool replay) {
  if (o.allow_oversize) return "";
  if (replay) plan.topology.teacher.replicas = 0;
  const WanConfig config = ConfigOfModel(plan.experiment.model.teacher);
  const double machine = MachineMemory();
  const std::string advice = OversizeAdvice(plan, config, machine);
  if (advice.empty()) return "";
  return StrCat(MemoryTable(PlanMemory(plan, config, machine)), advice,
                "nothing was started; --allow-oversize starts it all the same\n");
}

// Plans are also made for other machines: said, not refused.
std::string DeviceNote(const LaunchPlan& plan) {
  const std::string missing = MissingDevices(plan, "", GpusOfThisMachine());
  return missing.empty() ? "" : StrCat("\nnote: this machine has no such device: ", missing, "\n");
}

void RequireDevices(LaunchPlan plan, const std::string& host, bool replay) {
  if (replay) plan.topology.teacher.replicas = 0;
  const std::string missing = MissingDevices(plan, host, GpusOfThisMachine());
  if (missing.empty()) return;
  throw Error(StrCat("this machine has no such device: ", missing), plan.topology.run.folder.string(),
              "nothing was started; a GPU's driver shows it as /dev/nvidia0 and so on");
}

}  // namespace

int PlanVerb(const LaunchOptions& o) {
  const LaunchPlan plan = PlanOf(o, false);
  if (!o.no_weights) RequirePromptBank(plan, o.overrides);
  const WanConfig config = ConfigOfModel(plan.experiment.model.teacher);
  RequireAlignmentFits(plan, config, o.overrides);
  const double machine = MachineMemory();
  const std::string advice = OversizeAdvice(plan, config, machine);
  const bool refused = !advice.empty() && !o.allow_oversize;
  if (!o.emit.empty()) {
    std::cerr << advice;
    if (refused) return kExitDoesNotFit;
    std::cout << SlurmScript(plan, UpCommand(o), o.time_limit);
  } else {
    std::cout << PlanText(plan, NextEpoch({plan.topology.run.folder}), ProgramFolder(), FilesNeeded(o))
              << MemoryTable(PlanMemory(plan, config, machine))
              << TimeText(plan, config, o.tflops > 0 ? std::optional(o.tflops) : std::nullopt) << DiskText(plan, config)
              << DeviceNote(plan) << advice;
  }
  return refused ? kExitDoesNotFit : 0;
}

int UpVerb(const LaunchOptions& o, bool replay) {
  const LaunchPlan plan = PlanOf(o, replay);
  RequirePromptBank(plan, o.overrides);
  RequireAlignmentFits(plan, ConfigOfModel(plan.experiment.model.teacher), o.overrides);
  const std::string host = HostOfThis(o, plan.topology);
  const bool head = host.empty() || host == plan.topology.run.hosts.front();
  const auto checkpoints = RunFolder{plan.topology.run.folder}.Checkpoints();
  if (o.fresh && head && std::filesystem::exists(checkpoints)) {
    throw Error("--fresh was given, and the folder holds checkpoints", checkpoints.string(),
                "remove it or choose another with --run-folder");
  }
  if (!replay && plan.topology.teacher.replicas == 0) {
    throw Error("a run needs a teacher, and [teacher] replicas is 0", o.target.string(),
                "without teachers a recorded run can be replayed: sgmd-launch replay");
  }
  if (const std::string refusal = Refusal(o, plan, replay); !refusal.empty()) {
    std::cerr << refusal;
    return kExitDoesNotFit;
  }
  RequireDevices(plan, host, replay);
  const SessionOptions options{host, replay, o.quiet};
  return head ? Session(plan, options, ProgramFolder()).Run() : FurtherHost(plan, options, ProgramFolder()).Run();
}

int ReferenceVerb() {
  std::cout << "## Experiment files\n\n"
            << Reference(FieldTextsOf(Experiment())) << "\n## Topology files\n\n"
            << Reference(FieldTextsOf(Topology()));
  return 0;
}

}  // namespace sgmd
