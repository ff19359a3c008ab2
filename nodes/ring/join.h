// How a process of the ring that computes joins its run: its command line, who it is, its connection.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <string>

#include "common/config/topology.h"
#include "common/messages/life.h"
#include "common/transport/client.h"
#include "common/transport/heartbeat.h"
#include "pipeline/parallel/collectives.h"

namespace sgmd {

/// One process of a run: who it is and what the run is.
struct RingNode {
  LaunchPlan plan;
  NodeIdentity identity;
  c10::Device device{c10::kCPU};
  RankGroup group;  // of the role, or the teacher; of one where it has one rank

  /// Whether another rank speaks for the group, which this one follows.
  bool follows() const { return group.rank() > 0; }

  /// Connects the data socket; blocks until the broker welcomes this node.
  Client Connect(const message::Hello& hello = {}) const;
};

/// Parses --run, --epoch, --name and --attempt, takes device and CPU threads from the topology, meets the other ranks
/// of its group, and runs `body`. Logs the CPU time of all threads at the end. Returns the exit code: that of the body,
/// or kExitGroupLost where another rank of the group was lost.
int RunRingNode(int argc, char** argv, const std::string& role, const std::string& description,
                const std::function<int(const RingNode&)>& body);

}  // namespace sgmd
