#include "launch/plan/plan_text.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "common/error/error.h"
#include "common/storage/checkpoint_store.h"
#include "launch/run/host_processes.h"
#include "launch/run/run_control.h"

namespace sgmd {
namespace {

struct Placement {
  std::string device = "-";
  std::int64_t threads = 1;
};

Placement PlacementOf(const LaunchPlan& plan, const std::string& name) {
  if (name == "generator") return {plan.topology.generator.device, plan.experiment.threads.generator};
  if (name == "fake_score") return {plan.topology.fake_score.device, plan.experiment.threads.fake_score};
  if (name == "broker") return {};
  if (name == "evaluator") return {"cpu", plan.topology.evaluator.threads};
  return {TeacherDevice(plan.topology, std::stoll(name.substr(sizeof "teacher." - 1))), plan.topology.teacher.threads};
}

std::string JoinCommand(const std::vector<std::string>& command) {
  std::string text;
  for (const std::string& part : command) text += (text.empty() ? "" : " ") + part;
  return text;
}

std::string ProcessLine(const std::string& name, const Placement& placement, const std::vector<std::string>& command) {
  char head[80];
  std::snprintf(head, sizeof head, "%-12s %-8s %-8lld ", name.c_str(), placement.device.c_str(),
                static_cast<long long>(placement.threads));
  return StrCat(head, JoinCommand(command), "\n");
}

// GPUs of the host that uses most.
std::size_t GpusOfAHost(const LaunchPlan& plan) {
  std::size_t most = 0;
  const auto commands = RunCommands(plan, 0, false, {});
  for (const std::string& host : HostsOf(plan.topology)) {
    std::set<std::string> devices;
    for (const auto& [name, command] : commands) {
      const std::string device = PlacementOf(plan, name).device;
      if (HostOf(plan.topology, name) == host && device.starts_with("cuda")) devices.insert(device);
    }
    most = std::max(most, devices.size());
  }
  return most;
}

}  // namespace

std::string PlanText(const LaunchPlan& plan, const std::filesystem::path& programs, RequiredFiles needed) {
  const Experiment& e = plan.experiment;
  const Topology& t = plan.topology;
  const bool known = needed == RequiredFiles::kAll;
  const Digest digest = known ? ExperimentDigest(e) : Digest{};
  std::string text =
      StrCat("experiment  ", e.name, "  (", known ? digest.Hex() : "identity not known without the weights", ")\n");
  text +=
      StrCat("computes    ", e.steps, " steps of ", e.data.micro_batches, " x ", e.data.micro_batch, " samples, ",
             Spell(e.objective.name),
             e.objective.name == Objective::kSgmd
                 ? StrCat(" (", Spell(e.objective.weighting), ", lambda ", e.objective.lambda, ")")
                 : "",
             ", guidance u + ", e.model.guidance, " (c - u), ", e.inner.updates, " inner updates on ",
             Spell(e.inner.source), " samples, ", e.lora.rank > 0 ? StrCat("adapters of rank ", e.lora.rank, ", ") : "",
             Spell(e.precision.compute), ", ", e.max_staleness == 0 ? "strict" : "pipelined", "\n");
  text += StrCat("teacher     ", e.model.teacher.string(), "\nprompts     ", e.model.prompts.string(), "\nrun folder  ",
                 t.run.folder.string(), "\ncache       ",
                 t.cache.enabled ? StrCat(t.cache.folder.string(), ", at most ", t.cache.limit_gib, " GiB") : "off",
                 "\nendpoints   ", t.transport.data, "  ", t.transport.control,
                 t.transport.encrypt ? "  encrypted" : "", "\n");
  const auto checkpoints = RunFolder{t.run.folder}.Checkpoints();
  const auto newest =
      known && std::filesystem::exists(checkpoints) ? CheckpointStore(checkpoints, digest).Newest() : std::nullopt;
  if (newest) text += StrCat("resumes     ", newest->folder.string(), "\n");
  if (known && !newest) text += "starts      from the teacher's weights\n";
  const auto commands = RunCommands(plan, CurrentEpoch(t.run.folder) + 1, false, programs);
  for (const std::string& host : HostsOf(t)) {
    text += StrCat("\n", host.empty() ? "" : StrCat("host ", host, ": sgmd-launch up --host ", host, "\n"),
                   "process      device   threads  command\n");
    for (const auto& [name, command] : commands) {
      if (HostOf(t, name) == host) text += ProcessLine(name, PlacementOf(plan, name), command);
    }
  }
  return text;
}

std::string SlurmScript(const LaunchPlan& plan, const std::filesystem::path& programs) {
  const auto commands = RunCommands(plan, CurrentEpoch(plan.topology.run.folder) + 1, false, programs);
  SaveRun(plan);
  std::string text =
      StrCat("#!/bin/bash\n#SBATCH --job-name=sgmd-", plan.experiment.name,
             "\n#SBATCH --nodes=1\n#SBATCH --ntasks=", commands.size(),
             "\n#SBATCH --output=", (RunFolder{plan.topology.run.folder}.Logs() / "slurm-%j.log").string(),
             "\nset -e\nmkdir -p ", RunFolder{plan.topology.run.folder}.Logs().string(), "\n");
  for (const auto& [name, command] : commands) {
    text += StrCat("srun --ntasks=1 --exact --kill-on-bad-exit=1 ", JoinCommand(command), " &\n");
  }
  return text + "wait\n";
}

std::string SlurmHostsScript(const LaunchPlan& plan, const std::vector<std::string>& up_command) {
  const std::filesystem::path logs = RunFolder{plan.topology.run.folder}.Logs();
  std::filesystem::create_directories(logs);  // Slurm does not make the folder of --output
  const std::size_t gpus = GpusOfAHost(plan);
  std::string names;
  for (const std::string& host : plan.topology.run.hosts) names += (names.empty() ? "" : " ") + host;
  // An endpoint of the topology may say $SGMD_HEAD: the batch script itself runs on the first node.
  return StrCat(
      "#!/bin/bash\n#SBATCH --job-name=sgmd-", plan.experiment.name,
      "\n#SBATCH --nodes=", plan.topology.run.hosts.size(), "\n#SBATCH --ntasks-per-node=1\n#SBATCH --exclusive\n",
      gpus > 0 ? StrCat("#SBATCH --gpus-per-node=", gpus, "\n") : "", "#SBATCH --output=", logs.string(),
      "/slurm-%j.log\nset -e\n", "export SGMD_HEAD=${SGMD_HEAD:-$(hostname -I | cut -d' ' -f1)}\n",
      "# Node N of the job is host N of the topology.\n", "srun --cpu-bind=none --kill-on-bad-exit=0 bash -c 'hosts=(",
      names, "); exec \"$@\" --host \"${hosts[$SLURM_NODEID]}\"' host ", JoinCommand(up_command), "\n");
}

}  // namespace sgmd
