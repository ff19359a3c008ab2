#include "launch/plan/run_commands.h"

#include <algorithm>

#include "launch/plan/memory_plan.h"

namespace sgmd {
namespace {

const char* ProgramOf(Role role) {
  switch (role) {
    case Role::kBroker:
      return "sgmd-broker";
    case Role::kGenerator:
      return "sgmd-generator";
    case Role::kFakeScore:
      return "sgmd-fake-score";
    case Role::kTeacher:
      return "sgmd-teacher";
    case Role::kEvaluator:
      return "sgmd-evaluator";
    case Role::kLauncher:
      return "sgmd-launch";
  }
  return "";
}

bool OnGpu(const Placement& place) { return place.device.kind == Device::Kind::kCuda; }

// GB by process of the ring, where one is on a GPU: there it says at its end what it held.
std::map<std::string, std::string> PlannedMemory(const LaunchPlan& plan) {
  std::map<std::string, std::string> planned;
  if (std::ranges::none_of(Placements(plan), OnGpu)) return planned;
  for (const ProcessMemory& process : PlanMemory(plan, RoleConfigs(plan.experiment), 0).processes) {
    if (process.process != Spell(Role::kEvaluator))
      planned[process.process] = Gigabytes(process.need.total() - process.need.runtime);
  }
  return planned;
}

}  // namespace

std::vector<RunCommand> RunCommands(const LaunchPlan& plan, std::uint64_t epoch, bool replay,
                                    const std::filesystem::path& programs) {
  const std::map<std::string, std::string> planned = PlannedMemory(plan);
  std::vector<RunCommand> commands;
  for (const Placement& place : Placements(plan)) {
    const Role role = place.node.role;
    if (replay && role == Role::kTeacher) continue;
    RunCommand command{place, Spell(place.node), {}, plan.topology.env};
    command.words = {(programs / ProgramOf(role)).string(), "--run", plan.topology.run.folder.string(), "--epoch",
                     std::to_string(epoch)};
    if (role == Role::kTeacher || place.node.rank > 0)
      command.words.insert(command.words.end(), {"--name", command.name});
    if (const int ranks = RanksOf(plan.topology, place.node);
        ranks > 1) {  // as torchrun names them, for tools that ask
      command.env.insert({{"RANK", std::to_string(place.node.rank)},
                          {"LOCAL_RANK", std::to_string(place.node.rank)},
                          {"WORLD_SIZE", std::to_string(ranks)},
                          {"MASTER_ADDR", "127.0.0.1"}});
    }
    if (const auto gb = planned.find(command.name); gb != planned.end() && OnGpu(place))
      command.words.insert(command.words.end(), {"--planned-gb", gb->second});
    if (role == Role::kEvaluator) command.words.emplace_back("--watch");
    if (role == Role::kBroker && replay) command.words.emplace_back("--replay");
    commands.push_back(std::move(command));
  }
  return commands;
}

}  // namespace sgmd
