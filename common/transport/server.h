// The broker's side: a bound ROUTER. The only kind of socket that binds.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/transport/curve.h"
#include "common/transport/envelope.h"

namespace sgmd {

/// One bound ROUTER with ROUTER_MANDATORY and ROUTER_HANDOVER; peers are known by routing id = node name. Not
/// thread-safe: the broker's loop thread owns it.
class Server {
 public:
  struct Incoming {
    std::string peer;
    Envelope envelope;
  };

  /// Binds on exactly the address that others connect to; a host name is resolved here. With a `gate`, everything is
  /// encrypted and the gate decides who comes in. Throws Error when the endpoint is in use (naming it), malformed, or
  /// not an address of this host.
  explicit Server(const std::string& endpoint, const CurveGate* gate = nullptr);
  ~Server();

  /// False when the peer is gone (EHOSTUNREACH) or its queue is full; the caller decides what that means.
  bool Send(const std::string& peer, const Envelope& envelope);
  /// Non-blocking. Malformed messages are counted, logged and dropped. Nothing when the queue is empty.
  std::optional<Incoming> TryReceive();
  std::int64_t malformed() const;

  /// Waits until one of `servers` has something to read or `timeout` has passed.
  static void Wait(const std::vector<Server*>& servers, std::chrono::milliseconds timeout);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sgmd
