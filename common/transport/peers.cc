#include "common/transport/peers.h"

namespace sgmd {

std::optional<std::string> Peers::Take(const Server::Incoming& in) {
  const Envelope& e = in.envelope;
  if (e.kind == wire::Kind::Hello) return e.node;
  if (!OfSameRun(e, self_)) return {};
  const auto name = names_.find(in.pipe);
  if (name == names_.end() || peers_.at(name->second).process != e.process) {
    Envelope question;
    question.kind = wire::Kind::WhoAreYou;
    Send(in.pipe, std::move(question));
    return {};
  }
  Peer& peer = peers_.at(name->second);
  peer.heard = std::chrono::steady_clock::now();
  peer.link.Acknowledge(e.received);
  switch (e.kind) {
    case wire::Kind::Receipt:
      Send(peer.pipe, peer.link.Say(e.number > peer.link.received() ? wire::Kind::Missing : wire::Kind::Receipt));
      return {};
    case wire::Kind::Missing:
      peer.link.Rewind();
      Flush(peer);
      return {};
    default:
      break;
  }
  if (e.number == 0) return name->second;
  const Link::Arrival arrival = peer.link.OnArrival(e.number);
  if (arrival == Link::Arrival::kGap) Send(peer.pipe, peer.link.Say(wire::Kind::Missing));
  return arrival == Link::Arrival::kNext ? std::optional(name->second) : std::nullopt;
}

void Peers::Welcome(const Server::Incoming& hello) {
  const Envelope& e = hello.envelope;
  Peer& peer = peers_[e.node];
  // Of another process, or of another Client of the same one, which begins to count anew.
  const bool known = peer.process == 0 || peer.process == e.process;
  if (!known || e.number < peer.link.received() || e.received < peer.link.acknowledged()) peer.link = Link();
  names_.erase(peer.pipe);
  names_[hello.pipe] = e.node;
  peer.pipe = hello.pipe;
  peer.process = e.process;
  peer.heard = std::chrono::steady_clock::now();
  peer.link.Acknowledge(e.received);
  peer.link.Rewind();
  Send(peer.pipe, peer.link.Say(wire::Kind::Welcome));
  Flush(peer);
}

void Peers::Refuse(const Server::Incoming& hello, const std::string& why) {
  Envelope refusal;
  refusal.kind = wire::Kind::Refused;
  refusal.text = why;
  Send(hello.pipe, std::move(refusal));
}

void Peers::Post(const std::string& name, Envelope envelope) {
  if (envelope.node.empty()) Stamp(envelope, self_);
  Peer& peer = peers_[name];
  peer.link.Push(std::move(envelope));
  Flush(peer);
}

bool Peers::Tell(const std::string& name, Envelope envelope) {
  const auto peer = peers_.find(name);
  if (peer == peers_.end() || peer->second.pipe.empty()) return false;
  envelope.received = peer->second.link.received();
  return Send(peer->second.pipe, std::move(envelope));
}

void Peers::Flush() {
  for (auto& [name, peer] : peers_) Flush(peer);
}

void Peers::Flush(Peer& peer) {
  while (const Envelope* next = peer.pipe.empty() ? nullptr : peer.link.ToSend()) {
    if (!server_.Send(peer.pipe, *next)) return;
    peer.link.Advance();
  }
}

bool Peers::Send(const std::string& pipe, Envelope envelope) {
  Stamp(envelope, self_);
  return server_.Send(pipe, envelope);
}

bool Peers::HasAll(const std::string& name) const {
  const auto peer = peers_.find(name);
  return peer == peers_.end() || peer->second.link.acknowledged() == peer->second.link.sent();
}

void Peers::ForgetVisitors(std::string_view prefix, std::chrono::steady_clock::duration idle) {
  const auto now = std::chrono::steady_clock::now();
  std::erase_if(peers_, [&](const auto& entry) {
    const auto& [name, peer] = entry;
    if (!name.starts_with(prefix) || now - peer.heard < idle) return false;
    names_.erase(peer.pipe);
    return true;
  });
}

}  // namespace sgmd
