#include "launch/plan/disk_plan.h"

#include "common/error/error.h"
#include "launch/plan/memory_plan.h"
#include "pipeline/models/wan_size.h"

namespace sgmd {

DiskPlan PlanDisk(const Experiment& e, const RoleConfigs& configs) {
  double latent = 4;  // bytes of one sample's velocity
  for (const std::int64_t extent : e.data.latent) latent *= static_cast<double>(extent);
  const auto trained = [&](Role role) {
    const WanConfig& config = configs.Of(role);
    const double experts = configs.TransformersOf(role).trained;
    if (e.lora.rank == 0) return experts * static_cast<double>(ParameterCount(config));
    return experts * static_cast<double>(LoraParameterCount(config, e.lora.rank, e.lora.targets));
  };
  const auto moments = [](const OptimizerConfig& optimizer) { return optimizer.beta1 == 0 ? 1.0 : 2.0; };
  DiskPlan disk;
  const double samples = static_cast<double>(e.data.micro_batch * e.data.micro_batches);
  const StepCost cost = StepCostOf(e, false, false);
  const double of_score = e.precision.scores == Compute::kBfloat16 ? 0.5 : 1;
  disk.cache_step = latent * (of_score * cost.rolled_out * samples + cost.uncached_anchors);
  disk.cache_run = disk.cache_step * static_cast<double>(e.steps);
  disk.checkpoint = 4 * (trained(Role::kGenerator) * (1 + moments(e.optimizer.generator) + (e.ema.decay > 0 ? 1 : 0)) +
                         trained(Role::kFakeScore) * (1 + moments(e.optimizer.fake_score)));
  disk.student = 4.0 * configs.TransformersOf(Role::kGenerator).trained *
                 static_cast<double>(ParameterCount(configs.Of(Role::kGenerator)));
  return disk;
}

std::string DiskText(const LaunchPlan& plan, const RoleConfigs& configs) {
  const DiskPlan disk = PlanDisk(plan.experiment, configs);
  const Topology::Cache& cache = plan.topology.cache;
  std::string text = "\ndisk:\n";
  if (cache.enabled) {
    const bool over = disk.cache_run > cache.limit_gib * kGibibyte;
    text += StrCat("  cache        ", Gigabytes(disk.cache_step), " GB a step, ", Gigabytes(disk.cache_run),
                   " GB a run; the limit is ", Gigabytes(cache.limit_gib * kGibibyte), " GB",
                   over ? ": the oldest scores will go, and the run cannot be replayed as a whole" : "", "\n");
  }
  const std::int64_t keep = plan.experiment.checkpoint.keep;
  return text + StrCat("  checkpoints  ", keep, " x ", Gigabytes(disk.checkpoint),
                       " GB, and one more while it is written\n", "  student      ", Gigabytes(disk.student), " GB\n");
}

}  // namespace sgmd
