// Who is there: the nodes that have joined, and what their signs of life say of them.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/messages/control.h"
#include "common/time/awake_clock.h"
#include "common/transport/peers.h"

namespace sgmd {

/// A member's state, and what it is recognised by:
///
///   starting   it beats and has not joined
///   working    it has joined; its count of work moves, or has stood still for less than stall_seconds
///   waiting    it has joined, and its last beat said that it waits for others
///   stalled    it works and its count has stood still for stall_seconds
///   silent     it has joined, and no beat came for silence_seconds
///   gone       it had joined, and left, was sent away or ended (Remove)
///
/// Time in which the broker itself was stopped does not count. The launcher ends what is stalled or silent and starts
/// it again; a teacher that is either gets no leases until it is neither.
class Members {
 public:
  enum class State { kStarting, kWorking, kWaiting, kStalled, kSilent, kGone };
  struct Limits {
    double silence_seconds = 15, stall_seconds = 120;
  };
  struct Member {
    std::uint64_t process = 0;  // which process said Hello; 0 where it is expected
    bool joined = false, gone = false;
    bool beats_only = false;  // a rank after 0 of a group: nothing is sent to it
    bool suspended = false;   // a teacher that was found stalled or silent
    bool waiting = false;
    std::int64_t progress = 0;
    double heard = 0, moved = 0;  // when a beat came, and when one said more progress; seconds of the clock
    std::map<std::string, double> metrics;
    std::string control_pipe;  // of its last beat
  };

  /// `data`: the peers on the data socket; it outlives this.
  Members(Peers& data, Limits limits) : data_(data), limits_(limits) {}

  bool Joined(const std::string& name) const;
  /// Whether another process than `process` has joined under this name.
  bool TakenByAnother(const std::string& name, std::uint64_t process) const;
  /// Whether `process` had this name until another one took it over.
  bool WasReplaced(std::uint64_t process) const { return replaced_.contains(process); }
  /// A process has said Hello and is let in; one that says Hello again is told again.
  void Welcome(const std::string& name, const Server::Incoming& hello);
  /// A rank after 0 of a group whose rank 0 was let in: the ranks have met, so it has joined and owes signs of life.
  void Expect(const std::string& rank);
  /// A beat of `process`; one of a process that is not the member is ignored. True when a suspended member is well
  /// again.
  bool OnBeat(const std::string& name, std::uint64_t process, const message::Beat& beat, const std::string& pipe);
  /// Time passes: once in every round of the broker's loop, after it has listened.
  void Tick() { clock_.Tick(); }
  /// Those that are stalled or silent and not suspended, by name.
  std::vector<std::string> Unwell() const;
  void Suspend(const std::string& name) { members_[name].suspended = true; }
  /// It is gone, or starts anew. False when it had not joined.
  bool Remove(const std::string& name);

  /// Passes on a message, or sends one of the broker's: kept until the member has it.
  void Post(const std::string& name, Envelope envelope) { data_.Post(name, std::move(envelope)); }
  /// To everybody who has joined.
  void PostToAll(const Envelope& envelope);
  /// Whether everybody who has joined has all that was posted.
  bool AllHaveAll() const;

  State StateOf(const Member& member) const;
  double SilentSeconds(const Member& member) const { return clock_.Seconds() - member.heard; }
  /// For how long there has been anybody to look after.
  double Seconds() const { return clock_.Seconds(); }
  /// Since its count of work moved.
  double IdleSeconds(const Member& member) const { return clock_.Seconds() - member.moved; }
  const std::map<std::string, Member>& all() const { return members_; }

 private:
  Peers& data_;
  Limits limits_;
  AwakeClock clock_;
  std::map<std::string, Member> members_;
  std::set<std::uint64_t> replaced_;
};

/// "stalled".
const char* Spell(Members::State state);

}  // namespace sgmd
