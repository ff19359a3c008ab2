// How long a plan takes, from the work of a step and a stated speed. An estimate: nothing is measured.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/config/topology.h"
#include "pipeline/models/role_configs.h"

namespace sgmd {

/// TFLOP/s that a plan assumes where nothing is said: of a GPU in bfloat16 or float32, and of the CPU of a host.
inline constexpr double kGpuBfloat16Tflops = 400, kGpuFloat32Tflops = 50, kCpuTflops = 0.1;
/// Likewise GB/s that a GPU receives from the others of its host.
inline constexpr double kGpuLinkGigabytes = 300;
/// Likewise that it receives from the main memory of its host.
inline constexpr double kHostLinkGigabytes = 25;

struct DeviceTime {
  std::string device;  // "cuda:1", or "b/cuda:1"
  double busy = 0;     // seconds of a step
};

struct TimePlan {
  double step_seconds = 0;
  std::vector<DeviceTime> devices;
  double IdleShare(const DeviceTime& device) const { return 1 - device.busy / step_seconds; }
};

/// The model: a device computes one thing at a time, at its speed times the FLOPs of ForwardFlopsOf and StepCost, in
/// this order on each device, of M micro-batches.
///
///   generator   rolls out all M; where inner samples are fresh, rolls out those; diversity passes; then the exit step
///               of each micro-batch, once its gradient is there; fresh_after: those rollouts come last
///   teachers    score each micro-batch as it arrives, on the one that is free first; then anchors that are not cached
///   fake score  the gradient of each scored micro-batch; after the last, the inner updates
///
/// A group's ranks take GroupTraffic more, of which nothing overlaps with computing; nothing on the CPU. A pass of an
/// offloaded teacher takes as long as its copies, which overlap with computing, where that is longer (OffloadTime).
///
/// A strict step (max_staleness = 0) ends with the last of them. A pipelined one overlaps steps: the busiest device
/// sets the pace. Not counted: optimizers, messages, checkpoints, evaluation, start and compilation, and that small
/// models do not reach a device's speed. `tflops`: speed of every device; nothing: the constants above.
TimePlan PlanTime(const LaunchPlan& plan, const RoleConfigs& configs, std::optional<double> tflops);

/// Seconds of a pass of the first teacher for a micro-batch, with both halves of guidance: of computing it, and of
/// copying its blocks to the device, as with [teacher] offload.
struct OffloadTime {
  double computing = 0, copying = 0;
};
OffloadTime OffloadTimeOf(const LaunchPlan& plan, const RoleConfigs& configs, std::optional<double> tflops);

/// Seconds a step, duration of the run, idle share of each device, and the speed that this assumes. Also what the ranks
/// of groups send each other in a step (GroupTraffic), and with [objective] alignment the weights that travel.
std::string TimeText(const LaunchPlan& plan, const RoleConfigs& configs, std::optional<double> tflops);

}  // namespace sgmd
