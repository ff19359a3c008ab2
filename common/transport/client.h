// A node's side of a socket: a DEALER connected to the broker, owned by one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
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

/// DEALER connected to the broker. Not thread-safe: one thread owns it. Tensor frames are sent without a copy and keep
/// their owners alive until the socket is done with them.
class Client {
 public:
  /// Connects (the broker may not be up yet), sends `hello` and waits for Welcome. Throws Error after `patience`
  /// without an answer (a broker that does not admit the keys gives none), or with the broker's text when it is
  /// refused.
  Client(const std::string& endpoint, NodeIdentity identity, Envelope hello = {},
         std::chrono::milliseconds patience = std::chrono::seconds(30));
  ~Client();

  void Send(Envelope envelope);
  /// The next valid message of this run and epoch, or nothing after `timeout` (negative: wait for ever). A malformed
  /// one is logged and dropped. A Failed message is thrown as Error with its text.
  std::optional<Envelope> Receive(std::chrono::milliseconds timeout);

  const NodeIdentity& identity() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sgmd
