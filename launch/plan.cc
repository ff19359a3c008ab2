#include "launch/plan.h"

#include <cstdio>

#include "common/error/error.h"
#include "common/storage/checkpoint_store.h"
#include "launch/run_control.h"
#include "launch/session.h"

namespace sgmd {
namespace {

struct Placement {
  std::string device = "-";
  std::int64_t threads = 1;
};

Placement PlacementOf(const LaunchPlan& plan, const std::string& name) {
  if (name == "generator") return {plan.topology.generator_device, plan.experiment.generator_threads};
  if (name == "fake_score") return {plan.topology.fake_score_device, plan.experiment.fake_score_threads};
  if (name == "broker") return {};
  if (name == "evaluator") return {"cpu", plan.topology.evaluator_threads};
  return {TeacherDevice(plan.topology, std::stoll(name.substr(sizeof "teacher." - 1))), plan.topology.teacher_threads};
}

std::string JoinCommand(const std::vector<std::string>& command) {
  std::string text;
  for (const std::string& part : command) text += (text.empty() ? "" : " ") + part;
  return text;
}

}  // namespace

std::string PlanText(const LaunchPlan& plan, const std::filesystem::path& programs, RequiredFiles needed) {
  const Experiment& e = plan.experiment;
  const Topology& t = plan.topology;
  const bool known = needed == RequiredFiles::kAll;
  const Digest digest = known ? ExperimentDigest(e) : Digest{};
  std::string text = StrCat("experiment  ", e.name, "  (", known ? digest.Hex() : "identity not known without the weights", ")\n");
  text += StrCat("computes    ", e.steps, " steps of ", e.micro_batches, " x ", e.micro_batch, " samples, ", e.objective,
                 e.objective == "sgmd" ? StrCat(" (", e.weighting, ", lambda ", e.lambda, ")") : "", ", guidance u + ",
                 e.guidance, " (c - u), ", e.inner_updates, " inner updates on ", e.inner_source, " samples, ",
                 e.lora_rank > 0 ? StrCat("adapters of rank ", e.lora_rank, ", ") : "", e.compute, ", ",
                 e.max_staleness == 0 ? "strict" : "pipelined", "\n");
  text += StrCat("teacher     ", e.teacher.string(), "\nprompts     ", e.prompts.string(), "\nrun folder  ",
                 t.run_folder.string(), "\ncache       ",
                 t.cache_enabled ? StrCat(t.cache_folder.string(), ", at most ", t.cache_limit_gib, " GiB") : "off",
                 "\nendpoints   ", t.data_endpoint, "  ", t.control_endpoint, "\n");
  const auto checkpoints = RunFolder{t.run_folder}.Checkpoints();
  const auto newest = known && std::filesystem::exists(checkpoints) ? CheckpointStore(checkpoints, digest).Newest() : std::nullopt;
  if (newest) text += StrCat("resumes     ", newest->folder.string(), "\n");
  if (known && !newest) text += "starts      from the teacher's weights\n";
  text += "\nprocess      device   threads  command\n";
  for (const auto& [name, command] : RunCommands(plan, CurrentEpoch(t.run_folder) + 1, false, programs)) {
    const Placement placement = PlacementOf(plan, name);
    char head[80];
    std::snprintf(head, sizeof head, "%-12s %-8s %-8lld ", name.c_str(), placement.device.c_str(),
                  static_cast<long long>(placement.threads));
    text += StrCat(head, JoinCommand(command), "\n");
  }
  return text;
}

std::string SlurmScript(const LaunchPlan& plan, const std::filesystem::path& programs) {
  const auto commands = RunCommands(plan, CurrentEpoch(plan.topology.run_folder) + 1, false, programs);
  SaveRun(plan);
  std::string text = StrCat("#!/bin/bash\n#SBATCH --job-name=sgmd-", plan.experiment.name, "\n#SBATCH --nodes=1\n#SBATCH --ntasks=",
                            commands.size(), "\n#SBATCH --output=", (RunFolder{plan.topology.run_folder}.Logs() / "slurm-%j.log").string(),
                            "\nset -e\nmkdir -p ", RunFolder{plan.topology.run_folder}.Logs().string(), "\n");
  for (const auto& [name, command] : commands) {
    text += StrCat("srun --ntasks=1 --exact --kill-on-bad-exit=1 ", JoinCommand(command), " &\n");
  }
  return text + "wait\n";
}

}  // namespace sgmd
