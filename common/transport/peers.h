// Who is at the other end of a server's connections, and what is on its way to them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "common/transport/identity.h"
#include "common/transport/link.h"
#include "common/transport/server.h"

namespace sgmd {

/// The broker's side of Client. A peer is known by the Hello that it says on every connection it makes, never by the
/// connection itself. What is posted to a peer reaches it once and in order, also when it says Hello only later.
class Peers {
 public:
  /// `server` outlives it. Messages are stamped as of `self`.
  Peers(Server& server, NodeIdentity self) : server_(server), self_(std::move(self)) {}

  /// A message that came. Returns the name of its sender where the message is to be dealt with: it is the next one of a
  /// peer that has said Hello on this connection, or a Hello (of whoever it says it is), which the caller answers with
  /// Welcome or Refuse. All others are answered or dropped here.
  std::optional<std::string> Take(const Server::Incoming& in);
  /// The sender of this Hello is `name`. What was on its way to another process of that name is dropped.
  void Welcome(const Server::Incoming& hello);
  void Refuse(const Server::Incoming& hello, const std::string& why);

  /// Kept until the peer has it. A message that is passed on keeps the name of its sender.
  void Post(const std::string& name, Envelope envelope);
  /// Not kept: at once or not at all. False when the peer has no connection that takes it.
  bool Tell(const std::string& name, Envelope envelope);
  /// Sends what waits, as far as connections take it.
  void Flush();
  /// Whether `name` has everything that was posted to it.
  bool HasAll(const std::string& name) const;
  /// Forgets peers whose name begins with `prefix` and who have not been heard of for `idle`: visitors do not say when
  /// they leave.
  void ForgetVisitors(std::string_view prefix, std::chrono::steady_clock::duration idle);

 private:
  struct Peer {
    std::string pipe;  // empty: not connected yet
    std::uint64_t process = 0;
    Link link;
    std::chrono::steady_clock::time_point heard{};
  };

  bool Send(const std::string& pipe, Envelope envelope);
  void Flush(Peer& peer);

  Server& server_;
  NodeIdentity self_;
  std::map<std::string, Peer> peers_;         // by name
  std::map<std::string, std::string> names_;  // by pipe
};

}  // namespace sgmd
