// What is kept in memory in place of being computed again, where there is room for it.
#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "common/config/placement.h"
#include "launch/plan/memory_plan.h"
#include "pipeline/models/wan_size.h"

namespace sgmd {
namespace {

// Room is left for fragmentation and for what a plan does not know.
constexpr double kFilledByChoice = 0.9;

// Whether the devices of the role's ranks, whose memory must be known, have room for all that is on them.
bool HaveRoom(const LaunchPlan& plan, Role role, const RoleConfigs& configs, double machine_bytes) {
  std::set<std::string> names;
  for (NodeName node{role}; node.rank < RanksOf(plan.topology, {role}); ++node.rank)
    names.insert(PlacementOf(plan, node).DeviceOfHost());
  const MemoryPlan memory = PlanMemory(plan, configs, machine_bytes);
  return std::ranges::all_of(memory.devices, [&](const DeviceMemory& device) {
    return !names.contains(device.device) || device.need <= kFilledByChoice * device.has;
  });
}

Topology::TrainedRole& SettingsOf(LaunchPlan& plan, Role role) {
  return role == Role::kGenerator ? plan.topology.generator
                                  : static_cast<Topology::TrainedRole&>(plan.topology.fake_score);
}

void DecideAttention(LaunchPlan& plan, Role role, const RoleConfigs& configs, double machine_bytes) {
  Topology::TrainedRole& settings = SettingsOf(plan, role);
  if (settings.keep_attention != Keep::kAuto) return;
  settings.keep_attention = Keep::kAlways;
  const Placement place = PlacementOf(plan, {role});
  // On a GPU results can be kept of the kernel that deterministic runs in bfloat16 take (pipeline/models/attention.h).
  const Experiment::Precision& precision = plan.experiment.precision;
  const bool can =
      place.device.kind == Device::Kind::kCpu || (precision.compute == Compute::kBfloat16 && precision.deterministic);
  const bool kept = place.keep_attention && can;
  if (!kept || !HaveRoom(plan, role, configs, machine_bytes)) settings.keep_attention = Keep::kNever;
}

// What as many are kept of as fit.
struct Countable {
  Role role;
  std::int64_t* count;      // in the topology
  std::int64_t most, step;  // of which it is a multiple
};

// Those that are left to the plan.
std::vector<Countable> CountablesOf(LaunchPlan& plan, const RoleConfigs& configs) {
  std::vector<Countable> found;
  std::int64_t& graphs = plan.topology.generator.keep_exit_graphs;
  if (graphs == Topology::kAsManyAsFit) {
    LaunchPlan all = plan;
    all.topology.generator.keep_exit_graphs = plan.experiment.data.micro_batches;
    found.push_back({Role::kGenerator, &graphs, KeptGraphs(all), RoundOf(plan, {Role::kGenerator})});
  }
  for (const Role role : {Role::kFakeScore, Role::kGenerator}) {
    std::int64_t& blocks = SettingsOf(plan, role).keep_blocks;
    const bool can = PlacementOf(plan, {role}).checkpoint_blocks;
    if (blocks == Topology::kAsManyAsFit) found.push_back({role, &blocks, can ? configs.Of(role).num_layers : 0, 1});
  }
  return found;
}

// As many as there is room for beside what is kept by now. Who has room for more has room for less.
void Fill(const Countable& countable, const LaunchPlan& plan, const RoleConfigs& configs, double machine_bytes) {
  std::int64_t least = 0, most = countable.most / countable.step;
  while (least < most) {
    const std::int64_t middle = (least + most + 1) / 2;
    *countable.count = middle * countable.step;
    if (HaveRoom(plan, countable.role, configs, machine_bytes)) {
      least = middle;
    } else {
      most = middle - 1;
    }
  }
  *countable.count = least * countable.step;
}

// FLOPs of a step, of all processes.
double WorkOf(const LaunchPlan& plan, const RoleConfigs& configs, double machine_bytes) {
  double flops = 0;
  for (const ProcessMemory& process : PlanMemory(plan, configs, machine_bytes).processes) flops += process.step_flops;
  return flops;
}

}  // namespace

std::int64_t KeptBlocks(const LaunchPlan& plan, const RoleConfigs& configs, Role role) {
  return std::min(PlacementOf(plan, {role}).keep_blocks, configs.Of(role).num_layers);
}

std::int64_t KeptGraphs(const LaunchPlan& plan) {
  const Experiment& e = plan.experiment;
  const std::int64_t round = RoundOf(plan, {Role::kGenerator}),
                     most = e.outer.max_staleness == 0 ? e.data.micro_batches : 0;
  if (plan.topology.generator.ranks() > 1 && LandedMicroBatches(e) < e.data.micro_batches) return 0;
  const std::int64_t kept = std::clamp<std::int64_t>(plan.topology.generator.keep_exit_graphs, 0, most);
  return kept / round * round;
}

StepCost StepCostOf(const LaunchPlan& plan, const RoleConfigs& configs) {
  const double kept = static_cast<double>(KeptGraphs(plan)) / static_cast<double>(plan.experiment.data.micro_batches);
  const auto again = [&](Role role) {
    const Placement place = PlacementOf(plan, {role});
    if (!place.checkpoint_blocks) return 0.0;
    const WanConfig& config = configs.Of(role);
    const ForwardFlops flops = ForwardFlopsOf(config, TokenCount(config, plan.experiment.data.latent));
    const double blocks =
        1 - static_cast<double>(KeptBlocks(plan, configs, role)) / static_cast<double>(config.num_layers);
    return blocks * (place.keep_attention ? 1 - flops.self_attention / flops.total() : 1.0);
  };
  return StepCostOf(plan.experiment, again(Role::kGenerator), again(Role::kFakeScore), kept);
}

void DecideWhatIsKept(LaunchPlan& plan, const RoleConfigs& configs, double machine_bytes) {
  for (const Role role : {Role::kGenerator, Role::kFakeScore}) DecideAttention(plan, role, configs, machine_bytes);
  const std::vector<Countable> countables = CountablesOf(plan, configs);
  std::vector<std::size_t> order(countables.size());
  std::iota(order.begin(), order.end(), 0);
  std::vector<std::int64_t> best;
  double least = 0;
  do {
    for (const Countable& countable : countables) *countable.count = Topology::kAsManyAsFit;
    for (const std::size_t i : order) Fill(countables[i], plan, configs, machine_bytes);
    const double work = WorkOf(plan, configs, machine_bytes);
    if (!best.empty() && work >= least) continue;
    least = work;
    best.clear();
    for (const Countable& countable : countables) best.push_back(*countable.count);
  } while (std::ranges::next_permutation(order).found);
  for (std::size_t i = 0; i < countables.size(); ++i) *countables[i].count = best[i];
}

}  // namespace sgmd
