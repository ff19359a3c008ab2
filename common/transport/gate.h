// Who may connect: the broker's gate lets nobody in who does not show a key of the run or its token.
#pragma once

#include <memory>

#include "common/transport/credentials.h"

namespace sgmd {

/// The process's ZAP handler, in a thread of its own. A connection that it refuses ends in the handshake: its messages
/// are never read. One that it admits carries the user of its key (Server::Incoming::user). There can be one at a time,
/// and it must outlive the sockets it guards.
class Gate {
 public:
  explicit Gate(GateKeys keys);
  ~Gate();

  /// Makes `socket` ask this gate about every connection, encrypted where there are keys; before it binds.
  void Guard(zmq::socket_t& socket) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sgmd
