// What a run writes to disk.
#pragma once

#include <string>

#include "common/config/topology.h"
#include "pipeline/models/role_configs.h"

namespace sgmd {

/// Bytes.
struct DiskPlan {
  double cache_step = 0;  // scores of an outer iteration, and its share of anchors, which are float32
  double cache_run = 0;   // of all steps, without regard to the limit
  double checkpoint = 0;  // trained weights, optimizer states and average of both roles, float32
  double student = 0;     // the finished model, float32
};

DiskPlan PlanDisk(const Experiment& experiment, const RoleConfigs& configs);

/// Growth of the cache against its limit, checkpoints, student.
std::string DiskText(const LaunchPlan& plan, const RoleConfigs& configs);

}  // namespace sgmd
