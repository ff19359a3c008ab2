// Who sends, and which run a message belongs to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/transport/curve.h"
#include "common/transport/envelope.h"

namespace sgmd {

/// Who this process is: stamped on every message it sends, and by its keys what lets it in.
struct NodeIdentity {
  std::string node;                     // "generator", "fake_score", "teacher.0", "launcher", ...
  Digest run_id;                        // ExperimentDigest
  std::uint64_t epoch = 0;              // start of the run, chosen by the launcher
  std::optional<ClientKeys> keys = {};  // of an encrypted run; never sent
};

/// Puts who it is on a message that this process sends.
inline void Stamp(Envelope& envelope, const NodeIdentity& identity) {
  envelope.node = identity.node;
  envelope.run_id = identity.run_id;
  envelope.epoch = identity.epoch;
}

/// Whether `envelope` belongs to the run and the start of it that `identity` does; all others are dropped.
inline bool OfSameRun(const Envelope& envelope, const NodeIdentity& identity) {
  return envelope.run_id == identity.run_id && envelope.epoch == identity.epoch;
}

}  // namespace sgmd
