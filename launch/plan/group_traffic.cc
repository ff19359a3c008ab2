#include "launch/plan/group_traffic.h"

#include "common/config/placement.h"
#include "common/error/error.h"
#include "launch/plan/memory_plan.h"
#include "pipeline/models/wan_size.h"
#include "pipeline/objectives/objective_cost.h"

namespace sgmd {
namespace {

// Of a micro-batch in an outer iteration.
struct Passes {
  double gathers = 0;    // forward passes, and runs of the blocks again
  double exchanges = 0;  // backward passes to what is trained
  double streams = 0;    // forward passes, runs of the blocks again, and backward passes: they move tokens
};

void AddForward(Passes& passes, double times) {
  passes.gathers += times;
  passes.streams += times;
}

// Runs blocks again first: this share of them.
void AddBackward(Passes& passes, double times, double again, bool trains) {
  passes.gathers += times * again;
  passes.streams += times * (1 + again);
  if (trains) passes.exchanges += times;
}

Passes PassesOf(const LaunchPlan& plan, const RoleConfigs& configs, Role role) {
  const Experiment& e = plan.experiment;
  const StepCost cost = StepCostOf(plan, configs);
  const double landed = static_cast<double>(LandedMicroBatches(e)) / static_cast<double>(e.data.micro_batches),
               updates = static_cast<double>(MostInnerUpdates(e)),
               kept = static_cast<double>(KeptGraphs(plan)) / static_cast<double>(e.data.micro_batches);
  const double again =
      1 - static_cast<double>(KeptBlocks(plan, configs, role)) / static_cast<double>(configs.Of(role).num_layers);
  Passes passes;
  if (role == Role::kTeacher) {
    const double samples = static_cast<double>(e.data.micro_batch * e.data.micro_batches);
    AddForward(passes, cost.rolled_out);
    AddForward(passes, cost.uncached_anchors / samples * static_cast<double>(e.diversity.anchor_steps));
  } else if (role == Role::kGenerator) {
    AddForward(passes, cost.rolled_out * cost.rollout + updates * cost.fresh);
    AddForward(passes, landed - kept * cost.rolled_out);
    AddBackward(passes, landed, again, /*trains=*/true);
    if (cost.diversity > 0) {
      AddForward(passes, 1);
      AddBackward(passes, 1, again, /*trains=*/true);
    }
  } else {
    AddForward(passes, landed);
    if (DifferentiatesFakeScore(e.objective.name)) AddBackward(passes, landed, again, /*trains=*/false);
    if (e.inner.source != InnerSource::kPaired) AddForward(passes, updates);
    AddBackward(passes, updates, again, /*trains=*/true);
  }
  return passes;
}

}  // namespace

double GroupTraffic(const LaunchPlan& plan, const RoleConfigs& configs, Role role) {
  const NodeName node{role};
  const double ranks = RanksOf(plan.topology, node), sharing = SequenceRanksOf(plan.experiment, node);
  if (ranks == 1 || (role != Role::kGenerator && role != Role::kFakeScore && role != Role::kTeacher)) return 0;
  const Experiment& e = plan.experiment;
  const WanConfig& config = configs.Of(role);
  const double bytes = e.precision.compute == Compute::kBfloat16 ? 2 : 4;
  const double all = static_cast<double>(ParameterCount(config));
  const double adapters =
      e.lora.rank > 0 ? static_cast<double>(LoraParameterCount(config, e.lora.rank, e.lora.targets)) : 0;
  const bool adapted = role != Role::kTeacher && adapters > 0;
  const double gathered = bytes * (adapted ? all + adapters : all), exchanged = bytes * (adapted ? adapters : all);
  const double stream = bytes * static_cast<double>(e.data.micro_batch * TokenCount(config, e.data.latent)) / sharing *
                        static_cast<double>(config.dim * config.num_layers);
  const Passes passes = PassesOf(plan, configs, role);
  double groups = 1;
  if (role == Role::kTeacher) groups = static_cast<double>(plan.topology.teacher.replicas);
  const double rounds = static_cast<double>(e.data.micro_batches) / (ranks / sharing) / groups;
  return rounds * ((ranks - 1) / ranks * (passes.gathers * gathered + passes.exchanges * exchanged) +
                   4 * (sharing - 1) / sharing * passes.streams * stream);
}

std::string GroupTrafficText(const LaunchPlan& plan, const RoleConfigs& configs) {
  std::string text;
  for (const Role role : {Role::kGenerator, Role::kFakeScore, Role::kTeacher}) {
    if (const double bytes = GroupTraffic(plan, configs, role); bytes > 0)
      text += StrCat(text.empty() ? "" : ", ", Spell(role), " ", Gigabytes(bytes));
  }
  return text.empty() ? "" : StrCat("  groups       a rank receives from the others, GB a step: ", text, "\n");
}

}  // namespace sgmd
