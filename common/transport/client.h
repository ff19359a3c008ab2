// A node's side of a socket: a DEALER connected to the broker, owned by one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/transport/identity.h"

namespace sgmd {

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
