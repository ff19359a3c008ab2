#include "launch/verbs/planning.h"

#include <algorithm>
#include <cstdlib>

#include "common/error/error.h"
#include "launch/plan/memory_plan.h"
#include "launch/plan/plan_checks.h"

namespace sgmd {

void AddOverrides(CLI::App& verb, PlanningOptions& o) {
  verb.add_option("--set", o.overrides, "section.key=value in place of what the files say; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
}

void AddRunFolder(CLI::App& verb, PlanningOptions& o) {
  verb.add_option("--run-folder", o.run_folder, "Run here instead of in the topology's folder");
}

void AddAllowOversize(CLI::App& verb, PlanningOptions& o) {
  verb.add_flag("--allow-oversize", o.allow_oversize, "Go on also where the devices' memory does not suffice");
}

RequiredFiles FilesNeeded(const PlanningOptions& o) {
  return o.no_weights ? RequiredFiles::kConfig : RequiredFiles::kAll;
}

LaunchPlan PlanOf(const PlanningOptions& o, bool replay) {
  const bool recorded = std::filesystem::is_directory(o.target);
  if (recorded && !o.overrides.empty()) {
    throw Error("--set changes what a topology and its experiment say, and this is the folder of a run",
                o.target.string(), "name the topology file");
  }
  LaunchPlan plan = recorded ? LoadRun(o.target) : LoadLaunchPlan(o.target, FilesNeeded(o), o.overrides, o.groups);
  if (replay) plan.recorded = plan.topology.run.folder;
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

bool SetsTeachers(const PlanningOptions& o) {
  return std::ranges::any_of(o.overrides, [](const std::string& text) { return text.starts_with("teacher.replicas"); });
}

void RequireServable(const LaunchPlan& plan, const PlanningOptions& o) {
  const RoleConfigs configs(plan.experiment);
  RequireModelsFit(plan, configs, o.overrides);
  if (!o.no_weights) RequirePromptBank(plan, configs, o.overrides);
  RequireSequenceFits(plan, configs, o.overrides);
  RequireAlignmentFits(plan, configs, o.overrides);
}

std::string OversizeText(const LaunchPlan& plan, const PlanningOptions& o) {
  if (o.allow_oversize) return "";
  const RoleConfigs configs(plan.experiment);
  const double machine = MachineMemory();
  const std::string advice = OversizeAdvice(plan, configs, machine);
  return advice.empty() ? "" : MemoryTable(PlanMemory(plan, configs, machine)) + advice;
}

std::filesystem::path ProgramFolder() {
  if (const char* folder = std::getenv("SGMD_BIN_DIR")) return folder;
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

}  // namespace sgmd
