// A teacher process: scores what it is leased. Stateless; joins, leaves and dies at any time.
#pragma once

#include "common/signals/signals.h"
#include "nodes/ring/join.h"

namespace sgmd {

/// Until the broker closes the run; or until 2 s after `stop.in_order`, when it hands back its leases, unless the
/// broker drains the run by then: what ends every process at once (a cgroup, Slurm) wants the last step's scores
/// too. Returns the exit code.
int RunTeacher(const RingNode& node, const StopRequests& stop);

}  // namespace sgmd
