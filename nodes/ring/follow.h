// A rank after 0 of a group: it follows rank 0, and has no connection but for its signs of life.
#pragma once

#include "common/log/log.h"
#include "common/transport/heartbeat.h"
#include "nodes/ring/join.h"

namespace sgmd {

/// Does what rank 0 orders until it is done. `Group`: GeneratorGroup, FakeScoreGroup or TeacherGroup. Returns the exit
/// code.
template <typename Group>
int Follow(const RingNode& node, Group group) {
  const Topology::Transport& transport = node.plan.topology.transport;
  const Heartbeat heartbeat(transport.control, node.identity, transport.beat_seconds);
  LogInfo("ready on ", node.device.str());
  group.Follow();
  return 0;
}

}  // namespace sgmd
