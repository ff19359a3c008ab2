#include <iostream>
#include <memory>
#include <optional>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/error/text.h"
#include "launch/plan/balance.h"
#include "launch/plan/disk_plan.h"
#include "launch/plan/memory_plan.h"
#include "launch/plan/plan_checks.h"
#include "launch/plan/plan_text.h"
#include "launch/plan/slurm_script.h"
#include "launch/plan/teacher_scale.h"
#include "launch/plan/time_plan.h"
#include "launch/run/exit_codes.h"
#include "launch/verbs/planning.h"
#include "launch/verbs/verb_words.h"
#include "launch/verbs/verbs.h"

namespace sgmd {
namespace {

struct PlanOptions : PlanningOptions {
  std::string emit, balance, time_limit = "24:00:00";
  double tflops = 0;  // of every device; 0: what the plan assumes
};

// How Slurm starts a host.
std::vector<std::string> UpCommand(const PlanOptions& o) {
  namespace fs = std::filesystem;
  std::vector<std::string> command{ProgramFolder() / "sgmd-launch", "up", fs::absolute(o.target)};
  if (!o.run_folder.empty()) command.insert(command.end(), {"--run-folder", fs::absolute(o.run_folder)});
  for (const std::string& text : o.overrides) command.insert(command.end(), {"--set", text});
  if (o.allow_oversize) command.emplace_back("--allow-oversize");
  return command;
}

std::string KeptNote(const LaunchPlan& plan, const RoleConfigs& configs) {
  std::vector<std::string> roles, blocks;
  for (const Role role : {Role::kGenerator, Role::kFakeScore}) {
    if (PlacementOf(plan, {role}).keep_attention) roles.emplace_back(Spell(role));
    if (const std::int64_t kept = KeptBlocks(plan, configs, role); kept > 0)
      blocks.push_back(StrCat(kept, " of ", configs.Of(role).num_layers, " of ", Spell(role)));
  }
  return StrCat("attention that is kept for blocks that run again: ",
                roles.empty() ? "none" : "of " + Joined(roles, " and "), " (keep_attention)\n",
                "blocks that are kept where others run again: ", blocks.empty() ? "none" : Joined(blocks, " and "),
                " (keep_blocks)\n", "exit steps that are not run again: those of ", KeptGraphs(plan), " of ",
                plan.experiment.data.micro_batches, " micro-batches ([generator] keep_exit_graphs)\n");
}

// Plans are also made for other machines: said, not refused.
std::string DeviceNote(const LaunchPlan& plan) {
  const std::string missing = MissingDevices(plan, "", GpusOfThisMachine());
  return missing.empty() ? "" : StrCat("\nnote: this machine has no such device: ", missing, "\n");
}

int Plan(PlanOptions o) {
  if (!o.balance.empty()) o.groups = Groups::kAreReplaced;
  LaunchPlan plan = PlanOf(o, false);
  const std::string scaled = ApplyRememberedTeachers(plan, SetsTeachers(o));
  RequireServable(plan, o);
  const RoleConfigs configs(plan.experiment);
  const std::optional<double> tflops = o.tflops > 0 ? std::optional(o.tflops) : std::nullopt;
  if (!o.balance.empty()) {
    std::cout << BalancedToml(BalancedOver(plan, configs, ParseRack(o.balance), tflops), configs, o.balance);
    return 0;
  }
  const double machine = MachineMemory();
  DecideWhatIsKept(plan, configs, machine);
  const std::string advice = OversizeAdvice(plan, configs, machine);
  const bool refused = !advice.empty() && !o.allow_oversize;
  if (!o.emit.empty()) {
    std::cerr << advice;
    if (refused) return kExitRefused;
    std::cout << SlurmScript(plan, UpCommand(o), o.time_limit);
  } else {
    std::cout << PlanText(plan, NextEpoch({plan.topology.run.folder}), ProgramFolder(), FilesNeeded(o))
              << (scaled.empty() ? "" : "\nnote: " + scaled + "\n") << MemoryTable(PlanMemory(plan, configs, machine))
              << KeptNote(plan, configs) << TimeText(plan, configs, tflops) << DiskText(plan, configs)
              << DeviceNote(plan) << advice;
  }
  return refused ? kExitRefused : 0;
}

}  // namespace

Verb PlanVerb(CLI::App& app) {
  CLI::App* verb = AddVerb(app, "plan", "Validate and show what would run, on what, and how long it takes",
                           "plan launch/topologies/laptop.toml\n"
                           "plan launch/topologies/wan2.1-t2v-14b-lora-480p-8x80gb.toml --no-weights\n"
                           "plan topology.toml --balance 8x80gb --no-weights > balanced.toml\n"
                           "plan topology.toml --set teacher.replicas=4 --emit slurm > job.sh");
  const auto o = std::make_shared<PlanOptions>();
  AddTarget(*verb, o->target);
  AddOverrides(*verb, *o);
  AddRunFolder(*verb, *o);
  verb->add_option("--emit", o->emit, "Print a job script that starts the run")->check(CLI::IsMember({"slurm"}));
  verb->add_option("--balance", o->balance,
                   "Print a topology with the best split of the roles over these machines, such as 8x80gb (eight GPUs "
                   "of 80 GB) or 3x8x80gb (three such hosts)");
  verb->add_option("--time", o->time_limit, "Time limit of the job, as sbatch takes it")->capture_default_str();
  verb->add_option("--tflops", o->tflops, "Speed of every device in TFLOP/s, for the time that the plan prints")
      ->check(CLI::PositiveNumber);
  verb->add_flag("--no-weights", o->no_weights, "Plan a model of which only config.json is here");
  verb->add_flag("--allow-oversize", o->allow_oversize,
                 "Exit with 0, not 2, where the devices' memory does not suffice");
  return {verb, [o] { return Plan(*o); }};
}

}  // namespace sgmd
