// What is kept in memory in place of being computed again, where there is room for it.
#include <algorithm>
#include <set>

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

void DecideAttention(LaunchPlan& plan, Role role, const RoleConfigs& configs, double machine_bytes) {
  Topology::TrainedRole& settings = role == Role::kGenerator
                                        ? plan.topology.generator
                                        : static_cast<Topology::TrainedRole&>(plan.topology.fake_score);
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

}  // namespace

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
    return place.keep_attention ? 1 - flops.self_attention / flops.total() : 1.0;
  };
  return StepCostOf(plan.experiment, again(Role::kGenerator), again(Role::kFakeScore), kept);
}

void DecideWhatIsKept(LaunchPlan& plan, const RoleConfigs& configs, double machine_bytes) {
  std::int64_t& keep = plan.topology.generator.keep_exit_graphs;
  const bool as_many_as_fit = keep == Topology::kAsManyAsFit;
  if (as_many_as_fit) keep = 0;
  for (const Role role : {Role::kGenerator, Role::kFakeScore}) DecideAttention(plan, role, configs, machine_bytes);
  if (!as_many_as_fit) return;
  keep = plan.experiment.data.micro_batches;
  keep = KeptGraphs(plan);
  const std::int64_t round = RoundOf(plan, {Role::kGenerator});
  while (keep > 0 && !HaveRoom(plan, Role::kGenerator, configs, machine_bytes))
    keep = std::max<std::int64_t>(keep - round, 0);
}

}  // namespace sgmd
