// A rank after 0 of a group: it follows rank 0, and has no connection but for its signs of life.
#pragma once

#include "common/log/log.h"
#include "common/transport/heartbeat.h"
#include "nodes/ring/join.h"

namespace sgmd {

/// Does what rank 0 orders until it is done. `make` gives the GeneratorGroup, FakeScoreGroup or TeacherGroup: that
/// reads the model, which counts as work. Returns the exit code.
template <typename Make>
int Follow(const RingNode& node, Make make) {
  const Topology::Transport& transport = node.plan.topology.transport;
  const Heartbeat heartbeat(transport.control, node.identity, transport.beat_seconds);
  auto group = make();
  LogInfo("ready on ", node.device.str());
  group.Follow();
  return 0;
}

}  // namespace sgmd
