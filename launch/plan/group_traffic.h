// What the ranks of a group send each other in a step, from sizes alone.
#pragma once

#include "common/config/role.h"
#include "common/config/topology.h"
#include "pipeline/models/role_configs.h"

namespace sgmd {

/// Bytes that a rank of `role` receives from the others of its group in an outer iteration, a mean over the run; 0 in a
/// group of one. With n ranks, of which s share tokens, W bytes of the model as it is gathered and E of what is
/// trained:
///
///   a forward pass, and blocks that are run again   (n - 1) / n W, for n / s micro-batches at once
///   a backward pass to what is trained              (n - 1) / n E, likewise
///   these, and backward passes to inputs            4 (s - 1) / s T a block, T the bytes of its tokens' activations
///
/// Not counted: latents, orders, what fills up grains, micro-batches that are rolled out further than their own exit
/// step, and rounds of a teacher for which fewer micro-batches had come than it has ranks.
double GroupTraffic(const LaunchPlan& plan, const RoleConfigs& configs, Role role);

/// A line; empty where there is no group.
std::string GroupTrafficText(const LaunchPlan& plan, const RoleConfigs& configs);

}  // namespace sgmd
