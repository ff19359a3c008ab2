// A rank after 0 of a trained role's group: it follows rank 0, and has no connection but for its signs of life.
#pragma once

#include "common/log/log.h"
#include "common/transport/heartbeat.h"
#include "nodes/ring/join.h"

namespace sgmd {

/// Does what rank 0 orders until the run has ended. `Group`: GeneratorGroup or FakeScoreGroup. Returns the exit code.
template <typename Group>
int Follow(const RingNode& node, bool checkpoint_blocks) {
  Group group(node.plan.experiment, node.device, checkpoint_blocks, node.group);
  const Topology::Transport& transport = node.plan.topology.transport;
  const Heartbeat heartbeat(transport.control, node.identity, transport.beat_seconds);
  LogInfo("ready on ", node.device.str());
  group.Follow();
  return 0;
}

}  // namespace sgmd
