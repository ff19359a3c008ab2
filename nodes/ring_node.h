// What the processes of the ring that compute have in common: their command line, their two connections, tensors in
// frames.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

#include "common/config/topology.h"
#include "common/transport/client.h"
#include "common/transport/heartbeat.h"

namespace sgmd {

/// A tensor as a frame that keeps it alive. float32/uint8 CPU contiguous; no copy.
TensorFrame ToFrame(std::string name, const at::Tensor& tensor);

/// One process of a run: who it is and what the run is.
struct RingNode {
  LaunchPlan plan;
  NodeIdentity identity;
  at::Device device{at::kCPU};

  /// Connects the data socket; blocks until the broker welcomes this node.
  Client Connect(Envelope hello = {}) const;
};

/// Parses --run, --epoch and for teachers --name, takes device and CPU threads from the topology, and runs `body`. Logs
/// the CPU time of all threads at the end. Returns the process's exit code.
int RunRingNode(int argc, char** argv, const std::string& role, const std::string& description,
                const std::function<int(const RingNode&)>& body);

}  // namespace sgmd
