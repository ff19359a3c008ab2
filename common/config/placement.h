// The one list of a run's processes: who they are, where each runs, on what.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/config/device.h"
#include "common/config/role.h"
#include "common/config/topology.h"

namespace sgmd {

struct Placement {
  NodeName node;
  std::string host;  // one of [run] hosts; empty where the topology names none
  Device device;     // broker and evaluator: the CPU
  std::int64_t threads = 1;
  double device_memory_gib = 0;    // of the device as a whole; 0: not known
  bool checkpoint_blocks = false;  // runs blocks again in the backward pass
  bool keep_attention = false;     // but not their self-attention
  std::int64_t keep_blocks = 0;    // and of the last so many blocks nothing, which may be more than there are
  bool offload = false;            // has two blocks at a time on the device

  /// The device, told apart from those of other hosts: "cuda:1", or "b/cuda:1".
  std::string DeviceOfHost() const;
};

/// How many processes share the role of `node`, of a teacher the replica; how many of them share the tokens of a
/// micro-batch; and so how many micro-batches they have at once.
int RanksOf(const Topology& topology, const NodeName& node);
int SequenceRanksOf(const Experiment& experiment, const NodeName& node);
int RoundOf(const LaunchPlan& plan, const NodeName& node);

/// Where `node` of the plan runs, also a teacher beyond [teacher] replicas: the run may have been scaled.
Placement PlacementOf(const LaunchPlan& plan, const NodeName& node);

/// Every process of the run but launchers: broker, the ranks of generator and fake score, those of the teachers by
/// number, and the evaluator where there is one.
std::vector<Placement> Placements(const LaunchPlan& plan);

/// The user (common/transport/credentials.h) that a process, a launcher ("launcher", "launcher.<host>") or a client
/// ("client.<machine>.<pid>") is of: its role, at its host where the topology names hosts.
std::string UserOf(const LaunchPlan& plan, std::string_view name);

/// All users of the run's processes, launchers and clients.
std::vector<std::string> UsersOf(const LaunchPlan& plan);

}  // namespace sgmd
