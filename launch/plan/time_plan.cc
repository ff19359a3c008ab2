#include "launch/plan/time_plan.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/metrics/progress.h"
#include "launch/plan/group_traffic.h"
#include "launch/plan/memory_plan.h"
#include "launch/plan/plan_checks.h"
#include "pipeline/models/role_experts.h"
#include "pipeline/models/wan_size.h"

namespace sgmd {
namespace {

double Tflops(const LaunchPlan& plan, const Device& device, std::optional<double> said) {
  if (said) return *said;
  if (device.kind == Device::Kind::kCpu) return kCpuTflops;
  return plan.experiment.precision.compute == Compute::kBfloat16 ? kGpuBfloat16Tflops : kGpuFloat32Tflops;
}

// Samples in a pass of the teacher.
double TeacherSamples(const Experiment& e) {
  return static_cast<double>(e.data.micro_batch) * (GuidanceOf(e).Guides() ? 2 : 1);
}

// The devices of a plan on one clock, in seconds from the start of a step.
class Schedule {
 public:
  Schedule(const LaunchPlan& plan, const RoleConfigs& configs, std::optional<double> tflops)
      : plan_(plan), tflops_(tflops) {
    for (const Role role : {Role::kGenerator, Role::kFakeScore, Role::kTeacher}) {
      const WanConfig& config = configs.Of(role);
      forward_[role] = ForwardFlopsOf(config, TokenCount(config, plan.experiment.data.latent)).total();
    }
    if (plan.topology.teacher.offload)
      teachers_copy_ = OffloadTimeOf(plan, configs, tflops).copying / TeacherSamples(plan.experiment);
  }

  // `forwards` forward-equivalents by `node` and the other ranks of its group, in equal shares and not before `ready`;
  // returns when they are done.
  double Run(NodeName node, double ready, double forwards) {
    const int ranks = RanksOf(plan_.topology, node);
    double done = 0;
    for (node.rank = 0; node.rank < ranks; ++node.rank) {
      const Placement place = PlacementOf(plan_, node);
      double seconds = forwards / ranks * forward_.at(node.role) / (1e12 * Tflops(plan_, place.device, tflops_));
      if (place.offload) seconds = std::max(seconds, forwards * teachers_copy_);
      Use& use = uses_[place.DeviceOfHost()];
      use.free = std::max(use.free, ready) + seconds;
      use.busy += seconds;
      done = std::max(done, use.free);
    }
    return done;
  }
  // What the ranks of a group of the role send each other.
  void Exchange(const Placement& place, double bytes) {
    if (place.device.kind == Device::Kind::kCpu) return;
    Use& use = uses_[place.DeviceOfHost()];
    use.free += bytes / (1e9 * kGpuLinkGigabytes);
    use.busy += bytes / (1e9 * kGpuLinkGigabytes);
  }
  // The teacher whose device is free first.
  NodeName FreeTeacher() {
    NodeName best{Role::kTeacher};
    for (int i = 1; i < plan_.topology.teacher.replicas; ++i) {
      const NodeName other{Role::kTeacher, i};
      if (FreeAt(other) < FreeAt(best)) best = other;
    }
    return best;
  }
  TimePlan Result(bool strict) const {
    TimePlan result;
    for (const auto& [device, use] : uses_) {
      result.devices.push_back({device, use.busy});
      result.step_seconds = std::max(result.step_seconds, strict ? use.free : use.busy);
    }
    return result;
  }

 private:
  struct Use {
    double free = 0, busy = 0;
  };
  double FreeAt(const NodeName& node) { return uses_[PlacementOf(plan_, node).DeviceOfHost()].free; }

  const LaunchPlan& plan_;
  std::optional<double> tflops_;
  std::map<Role, double> forward_;  // FLOPs of one sample's forward pass
  double teachers_copy_ = 0;        // seconds for one sample of an offloaded teacher
  std::map<std::string, Use> uses_;
};

// When `each` forward-equivalents for every of the micro-batches are done, one after the other from `ready` on.
std::vector<double> RunAll(Schedule& schedule, const NodeName& node, const std::vector<double>& ready, double each) {
  std::vector<double> done;
  for (const double at : ready) done.push_back(each > 0 ? schedule.Run(node, at, each) : at);
  return done;
}

// Which devices, and what they do; those in a row that do the same are one entry.
std::vector<std::pair<std::string, std::string>> AlikeDevices(const TimePlan& time) {
  std::vector<std::pair<std::string, std::string>> alike;
  std::string first;
  for (const DeviceTime& device : time.devices) {
    char busy[64];
    std::snprintf(busy, sizeof busy, "busy %.3g s a step, idle %.0f %%", device.busy, 100 * time.IdleShare(device));
    if (!alike.empty() && alike.back().second == busy) {
      alike.back().first = StrCat(first, " to ", device.device);
    } else {
      first = device.device;
      alike.emplace_back(first, busy);
    }
  }
  return alike;
}

// Share of a training pass on a GPU in bfloat16 that determinism takes, from published speeds of an H100 in TFLOP/s: of
// attention forward, of its backward pass with and without an order, which is twice the work, and of other products.
// Forward passes do not differ (pipeline/models/cudnn_attention.h).
std::string DeterminismText(const Experiment& e, const WanConfig& config) {
  constexpr double kForward = 580, kDeterministic = 270, kFast = 500, kProducts = 620;
  if (!e.precision.deterministic || e.precision.compute != Compute::kBfloat16) return "";
  const ForwardFlops flops = ForwardFlopsOf(config, TokenCount(config, e.data.latent));
  const double attention = flops.self_attention + flops.cross_attention;
  const auto seconds = [&](double backward) {
    return 3 * flops.linear / kProducts + attention / kForward + 2 * attention / backward;
  };
  char percent[16];
  std::snprintf(percent, sizeof percent, "%.0f", 100 * (1 - seconds(kFast) / seconds(kDeterministic)));
  return StrCat("  determinism  about ", percent,
                " % of a training pass, nothing of others, from published speeds of attention; [precision] "
                "deterministic = false gives it up\n");
}

std::string OffloadText(const LaunchPlan& plan, const RoleConfigs& configs, std::optional<double> tflops) {
  const OffloadTime pass = OffloadTimeOf(plan, configs, tflops);
  char line[200];
  std::snprintf(line, sizeof line,
                "  offload      %s GB from main memory for a pass of a teacher: %.2g s at %g GB/s (assumed), beside "
                "%.2g s of computing\n",
                Gigabytes(TeacherBlockBytes(plan, configs)).c_str(), pass.copying, kHostLinkGigabytes, pass.computing);
  return line;
}

}  // namespace

OffloadTime OffloadTimeOf(const LaunchPlan& plan, const RoleConfigs& configs, std::optional<double> tflops) {
  const WanConfig& config = configs.Of(Role::kTeacher);
  const double flops =
      TeacherSamples(plan.experiment) * ForwardFlopsOf(config, TokenCount(config, plan.experiment.data.latent)).total();
  return {flops / (1e12 * Tflops(plan, PlacementOf(plan, {Role::kTeacher}).device, tflops)),
          TeacherBlockBytes(plan, configs) / (1e9 * kHostLinkGigabytes)};
}

TimePlan PlanTime(const LaunchPlan& plan, const RoleConfigs& configs, std::optional<double> tflops) {
  const Experiment& e = plan.experiment;
  const StepCost cost = StepCostOf(plan, configs);
  const double batch = static_cast<double>(e.data.micro_batch), updates = static_cast<double>(MostInnerUpdates(e));
  const NodeName generator{Role::kGenerator}, fake_score{Role::kFakeScore};
  Schedule schedule(plan, configs, tflops);
  const std::vector<double> start(static_cast<std::size_t>(e.data.micro_batches), 0.0);
  const double rollouts = batch * cost.rolled_out;  // a mean over outer iterations
  const std::vector<double> rolled = RunAll(schedule, generator, start, rollouts * cost.rollout);
  std::vector<double> scored;
  for (const double at : rolled) scored.push_back(schedule.Run(schedule.FreeTeacher(), at, rollouts * cost.score));
  const double anchors = cost.uncached_anchors * cost.anchor / static_cast<double>(start.size());
  std::vector<double> anchored;
  for (const double at : start)
    anchored.push_back(anchors > 0 ? schedule.Run(schedule.FreeTeacher(), at, anchors) : at);
  const auto roll_out_inner = [&] { return RunAll(schedule, generator, rolled, batch * updates * cost.fresh); };
  const auto run_inner = [&](const std::vector<double>& ready) {
    RunAll(schedule, fake_score, ready, batch * updates * cost.inner);
  };
  const bool fresh_after = e.inner.source == InnerSource::kFreshAfter, before = e.inner.order == InnerOrder::kBefore;
  std::vector<double> inner;
  if (!fresh_after) inner = roll_out_inner();
  if (before) run_inner(inner);
  const std::vector<double> gradients = RunAll(schedule, fake_score, scored, batch * cost.gradient);
  RunAll(schedule, generator, anchored, batch * cost.diversity);
  RunAll(schedule, generator, gradients, batch * cost.exit_step);
  if (fresh_after) inner = roll_out_inner();
  if (!before) run_inner(inner);
  for (const Placement& place : Placements(plan))
    schedule.Exchange(place, GroupTraffic(plan, configs, place.node.role));
  return schedule.Result(e.outer.max_staleness == 0);
}

std::string TimeText(const LaunchPlan& plan, const RoleConfigs& configs, std::optional<double> tflops) {
  const TimePlan time = PlanTime(plan, configs, tflops);
  bool gpu = false, cpu = false;
  for (const Placement& place : Placements(plan)) {
    if (place.node.role == Role::kBroker || place.node.role == Role::kEvaluator) continue;
    (place.device.kind == Device::Kind::kCpu ? cpu : gpu) = true;
  }
  const auto speed = [&](bool used, const char* what, Device::Kind kind) {
    return used ? StrCat(" ", Tflops(plan, {kind, 0}, tflops), " TFLOP/s ", what) : std::string();
  };
  const std::string traffic = GroupTrafficText(plan, configs);
  char step[32];
  std::snprintf(step, sizeof step, "%.3g", time.step_seconds);
  std::string text =
      StrCat("\ntime, at", speed(gpu, "a GPU", Device::Kind::kCuda), gpu && cpu ? " and" : "",
             speed(cpu, "a CPU", Device::Kind::kCpu), tflops ? "" : " (assumed; --tflops says otherwise)",
             traffic.empty() ? "" : StrCat(", and ", kGpuLinkGigabytes, " GB/s between GPUs of a host"), ":\n  ", step,
             " s a step, ", FormatDuration(time.step_seconds * static_cast<double>(plan.experiment.steps)), " for ",
             plan.experiment.steps, " steps\n");
  for (const auto& [devices, busy] : AlikeDevices(time)) {
    char line[160];
    std::snprintf(line, sizeof line, "  %-12s %s\n", devices.c_str(), busy.c_str());
    text += line;
  }
  text += traffic;
  if (plan.topology.teacher.offload) text += OffloadText(plan, configs, tflops);
  if (gpu) text += DeterminismText(plan.experiment, configs.Of(Role::kGenerator));
  if (const double bytes = AlignmentBytes(plan.experiment, configs); bytes > 0)
    text += StrCat("  alignment    ", Gigabytes(bytes), " GB of weights a step from generator to fake_score\n");
  return text;
}

}  // namespace sgmd
