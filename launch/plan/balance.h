// The best split of a run over given machines: which role on which of their GPUs.
#pragma once

#include <optional>
#include <string>

#include "common/config/topology.h"
#include "pipeline/models/role_configs.h"

namespace sgmd {

/// Hosts with equal GPUs.
struct Rack {
  int hosts = 1, gpus = 8;  // 1 to 16; GPUs of a host 1 to 16
  double memory_gib = 79;   // of a GPU, as drivers report it
};

/// "8x80gb" is a host with eight GPUs of 80 GB, "3x8x141gb" three hosts. A driver reports a gibibyte less than is on
/// the card's name, and 139 for 141. Throws Error, located at --balance, on anything else.
Rack ParseRack(const std::string& text);

/// A split of a plan and what it comes to.
struct Balanced {
  LaunchPlan plan;
  double step_seconds = 0;  // by PlanTime
};

/// The split with the shortest step (PlanTime) of those that fit (PlanMemory): generator and fake score as groups of
/// 1, 2, 4, ... ranks that share the micro-batches evenly, each on GPUs of one host, teachers on any, whole or those of
/// a host as a group. GPUs may have several roles, which in a strict run take turns. Everything but devices and hosts
/// stays as it is in `plan`, [teacher] offload where teachers are whole; several hosts are named a, b, ... where the
/// plan does not name as many. `tflops` as in PlanTime. Throws Error, located at --balance, where none fits.
Balanced BalancedOver(const LaunchPlan& plan, const RoleConfigs& configs, const Rack& rack,
                      std::optional<double> tflops);

/// The topology file of a split, for `up`: what a file needs to say of it.
std::string BalancedToml(const Balanced& balanced, const RoleConfigs& configs, const std::string& rack);

}  // namespace sgmd
