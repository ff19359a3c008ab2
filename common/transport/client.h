// A node's side of a socket: a DEALER connected to the broker, owned by one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/transport/identity.h"

namespace sgmd {

/// DEALER connected to the broker. Nothing that is sent or received is lost, doubled or out of order while both
/// processes live, whatever happens to the connection (link.h). Not thread-safe: one thread owns it. Tensor frames are
/// sent without a copy and keep their owners alive until the broker has them.
class Client {
 public:
  /// Connects (the broker may not be up yet), says `hello` until it is welcome. Throws Error after `patience` without
  /// an answer (a broker that does not admit the credentials gives none), or with the broker's text when it is refused.
  Client(const std::string& endpoint, NodeIdentity identity, Envelope hello = {},
         std::chrono::milliseconds patience = std::chrono::seconds(30));
  ~Client();

  /// Never blocks: what the connection does not take now is sent from within Receive.
  void Send(Envelope envelope);
  /// The next message of this run and epoch, or nothing after `timeout` (negative: wait for ever, or until a signal). A
  /// malformed one is logged and dropped, and sent again by the broker. A Failed message is thrown as Error with its
  /// text. The process counts as waiting (common/metrics/work_count.h) while it is in here without a message.
  std::optional<Envelope> Receive(std::chrono::milliseconds timeout);

  const NodeIdentity& identity() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sgmd
