// Who sends, and which run a message belongs to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/transport/credentials.h"
#include "common/transport/envelope.h"

namespace sgmd {

/// A random number, the same for all of this process and another one after a restart. Not 0.
std::uint64_t ProcessNumber();

/// The broker's two sockets: the ring's messages go over one, beats, orders and questions over the other.
enum class Channel { kData, kControl };

/// Who this process is: stamped on every message it sends, and by its credentials what lets it in.
struct NodeIdentity {
  std::string node;              // "generator", "fake_score", "teacher.0", "launcher", ...
  Digest run_id;                 // ExperimentDigest
  std::uint64_t epoch = 0;       // start of the run, chosen by the launcher
  Credentials credentials = {};  // never part of a message
  std::uint64_t process = ProcessNumber();
  Channel channel = Channel::kData;  // which socket its Client is on, for failpoints; never part of a message
};

/// Puts who it is on a message that this process sends.
inline void Stamp(Envelope& envelope, const NodeIdentity& identity) {
  envelope.node = identity.node;
  envelope.run_id = identity.run_id;
  envelope.epoch = identity.epoch;
  envelope.process = identity.process;
}

/// Whether `envelope` belongs to the run and the start of it that `identity` does; all others are dropped.
inline bool OfSameRun(const Envelope& envelope, const NodeIdentity& identity) {
  return envelope.run_id == identity.run_id && envelope.epoch == identity.epoch;
}

}  // namespace sgmd
