// The broker under load without a network that computes: the real program and the real transport, simulated processes
// around them.
#pragma once

#include "common/signals/signals.h"
#include "nodes/simulator/report.h"

namespace sgmd {

/// One run from the first sample to the last gradient, with progress on stderr. Throws Error when a process does not
/// join, when the broker ends, or when `stop` asks for it; in every case no process and no file is left.
SimulationReport Simulate(const SimulationOptions& options, const StopRequests& stop);

}  // namespace sgmd
