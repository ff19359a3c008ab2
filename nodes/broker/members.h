// Who is there: the nodes that have joined, when they were last heard of, and what waits to be sent to them.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "common/messages/control.h"
#include "common/transport/identity.h"
#include "common/transport/server.h"

namespace sgmd {

/// A member's state, and what moves it:
///
///   from      event                            to
///   -         Forward                          expected: what is for it waits
///   any       Welcome                          joined, alive
///   alive     no Beat for silence_seconds      silent (SilentNow names it once, Suspend marks it)
///   silent    OnBeat                           alive
///   joined    Remove                           expected
///
/// What is forwarded to a member reaches it in that order, and waits while it has not joined or its connection takes no
/// more.
class Members {
 public:
  using Clock = std::chrono::steady_clock;
  struct Member {
    std::uint64_t process = 0;  // which process said Hello
    bool joined = false, alive = true;
    Clock::time_point last_beat = Clock::now();
    std::int64_t progress = 0;
    std::map<std::string, double> metrics;
    std::deque<Envelope> outbox;

    double SilentSeconds() const;
  };

  /// `data`: the socket that its members are connected to; it outlives this. Messages are stamped as of `broker`.
  Members(Server& data, NodeIdentity broker, double silence_seconds)
      : data_(data), broker_(std::move(broker)), silence_seconds_(silence_seconds) {}

  bool Joined(const std::string& name) const;
  /// Whether another process than `process` has joined under this name.
  bool TakenByAnother(const std::string& name, std::uint64_t process) const;
  /// Lets it in, tells it so and sends what waits for it. A process that says Hello again is told again.
  void Welcome(const std::string& name, std::uint64_t process);
  /// True when it had been silent and is alive again.
  bool OnBeat(const std::string& name, const message::Beat& beat);
  /// Those that have joined and have just passed the limit of silence, by name.
  std::vector<std::string> SilentNow() const;
  void Suspend(const std::string& name) { members_[name].alive = false; }
  /// It is gone, or starts anew. False when it had not joined.
  bool Remove(const std::string& name);

  /// Passes on a message as it was received.
  void Forward(const std::string& name, const Envelope& envelope);
  /// Sends a message of the broker, after what waits.
  void Post(const std::string& name, Envelope envelope) { Forward(name, Stamped(std::move(envelope))); }
  /// The same at once or not at all: false when there is no connection or it takes no more.
  bool SendNow(const std::string& name, Envelope envelope) { return data_.Send(name, Stamped(std::move(envelope))); }
  /// Sends what waits, as far as connections take it.
  void SendWaiting();
  /// The broker's last word to everybody who has joined.
  void TellAll(Envelope envelope);

  const std::map<std::string, Member>& all() const { return members_; }

 private:
  Envelope Stamped(Envelope envelope) const;
  void SendWaiting(const std::string& name, Member& member);

  Server& data_;
  NodeIdentity broker_;
  double silence_seconds_;
  std::map<std::string, Member> members_;
};

}  // namespace sgmd
