// The broker's side: a bound ROUTER. The only kind of socket that binds.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/transport/envelope.h"
#include "common/transport/gate.h"
#include "common/transport/socket.h"

namespace sgmd {

/// One bound ROUTER with ROUTER_MANDATORY. It knows connections (pipes), which are numbered anew whenever a peer
/// reconnects; who is at their other end is for Peers to know. Not thread-safe: the broker's loop thread owns it.
class Server {
 public:
  struct Incoming {
    std::string pipe;
    std::string user;  // whom the gate let in; empty without one
    Envelope envelope;
  };

  /// Binds on exactly the address that others connect to; a host name is resolved here. The folder of an ipc file is
  /// made with mode 0700 where it is not there, and the file has mode 0600. The `gate` decides who comes in. A peer
  /// that sends a frame of more than `max_frame_bytes` is disconnected before it is read. Throws Error when the
  /// endpoint is in use (naming it), malformed, or not an address of this host.
  explicit Server(const std::string& endpoint, const Gate* gate = nullptr,
                  std::int64_t max_frame_bytes = kMaxFrameBytes, Channel channel = Channel::kData);
  ~Server();

  /// At once or not at all: false when the connection is gone or its queue is full; the caller decides what that means.
  bool Send(const std::string& pipe, const Envelope& envelope);
  /// Non-blocking. Malformed messages are counted, logged at a limited rate, and dropped. Nothing when none is there.
  std::optional<Incoming> TryReceive();
  std::int64_t malformed() const;

  /// Waits until one of `servers`, or the file descriptor `event` (-1: none), has something to read or `timeout` has
  /// passed.
  static void Wait(const std::vector<Server*>& servers, std::chrono::milliseconds timeout, int event = -1);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sgmd
