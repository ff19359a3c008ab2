#include "launch/plan/slurm_script.h"

#include <algorithm>
#include <map>
#include <set>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/error/text.h"

namespace sgmd {
namespace {

// GPUs of the host that uses most.
std::size_t GpusOfAHost(const std::vector<Placement>& placements) {
  std::map<std::string, std::set<Device>> gpus;
  for (const Placement& place : placements) {
    if (place.device.kind == Device::Kind::kCuda) gpus[place.host].insert(place.device);
  }
  std::size_t most = 0;
  for (const auto& [host, devices] : gpus) most = std::max(most, devices.size());
  return most;
}

std::int64_t Threads(const std::vector<Placement>& placements) {
  std::int64_t threads = 0;
  for (const Placement& place : placements) threads += place.threads;
  return threads;
}

// For a shell: the words as they are.
std::string Quoted(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    const bool plain =
        word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%") ==
        std::string::npos;
    std::string quoted = "'";
    for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    text += (text.empty() ? "" : " ") + (plain && !word.empty() ? word : quoted + "'");
  }
  return text;
}

// One task, which is the launcher itself: Slurm's signal reaches it, and it starts the rest.
std::string OneHost(std::int64_t threads, const std::string& up) {
  return StrCat("#SBATCH --nodes=1\n#SBATCH --ntasks=1\n#SBATCH --cpus-per-task=", threads,
                "\n#SBATCH --signal=B:TERM@300\nset -e\nexec ", up, "\n");
}

// An endpoint of the topology may say $SGMD_HEAD: the batch script itself runs on the first node.
std::string SeveralHosts(const std::vector<std::string>& hosts, const std::string& up) {
  return StrCat("#SBATCH --nodes=", hosts.size(),
                "\n#SBATCH --ntasks-per-node=1\n#SBATCH --exclusive\n#SBATCH --signal=TERM@300\nset -e\n",
                "export SGMD_HEAD=${SGMD_HEAD:-$(hostname -I | cut -d' ' -f1)}\n",
                "# Node N of the job is host N of the topology.\n",
                "srun --cpu-bind=none --kill-on-bad-exit=0 bash -c 'hosts=(", Joined(hosts),
                "); exec \"$@\" --host \"${hosts[$SLURM_NODEID]}\"' host ", up, "\n");
}

}  // namespace

std::string SlurmScript(const LaunchPlan& plan, const std::vector<std::string>& up, const std::string& time_limit) {
  const std::filesystem::path logs = RunFolder{plan.topology.run.folder}.Logs();
  std::filesystem::create_directories(logs);
  const std::vector<Placement> placements = Placements(plan);
  const std::size_t gpus = GpusOfAHost(placements);
  const std::vector<std::string>& hosts = plan.topology.run.hosts;
  return StrCat("#!/bin/bash\n#SBATCH --job-name=sgmd-", plan.experiment.name, "\n#SBATCH --time=", time_limit, "\n",
                gpus > 0 ? StrCat("#SBATCH --gres=gpu:", gpus, "\n") : "", "#SBATCH --output=", logs.string(),
                "/slurm-%j.log\n#SBATCH --requeue\n#SBATCH --open-mode=append\n",
                hosts.empty() ? OneHost(Threads(placements), Quoted(up)) : SeveralHosts(hosts, Quoted(up)));
}

}  // namespace sgmd
