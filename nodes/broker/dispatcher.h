// Which teacher scores which sample: leases, credit, re-dispatch. A state machine without sockets or clocks of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

namespace sgmd {

/// State of a ticket, and what moves it:
///
///   from      event                               to
///   -         Add                                 waiting, true
///   any       Add                                 unchanged, false
///   waiting   NextLease (a teacher has credit)    leased
///   leased    Accept (from any teacher)           scored, true: the first answer fills the slot
///   waiting   Accept (cached, or late)            scored, true: a score is the same whoever computes it
///   leased    Expire, Suspend or Release          waiting, at its old place in the order
///   scored, - Accept                              unchanged, false: dropped and counted
///
/// A teacher has credit for as many leases as it has asked for by AddCredit and not been given since. Suspend keeps its
/// credit for when it is back (Resume, AddCredit); Release voids it.
class Dispatcher {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Lease {
    std::uint64_t ticket = 0;
    std::string teacher;
    std::uint32_t attempt = 1;  // counts the leases of this ticket
  };

  /// `lease_time`: an unanswered lease goes to the next teacher after this long.
  explicit Dispatcher(std::chrono::duration<double> lease_time) : lease_time_(lease_time) {}

  /// Tickets are served in ascending order. `cost` > 0: how many times the work of a score it is; its leases last as
  /// many times as long. False when this one has been here before.
  bool Add(std::uint64_t ticket, double cost = 1);
  void AddCredit(const std::string& teacher, int count);
  /// The lowest waiting ticket to the teacher with credit that holds the fewest leases; nothing when either lacks.
  std::optional<Lease> NextLease(Time now);
  /// True when this answer fills the slot.
  bool Accept(std::uint64_t ticket);
  /// The teacher does not answer: its leases wait again and it gets no others. Returns how many leases it held.
  int Suspend(const std::string& teacher);
  void Resume(const std::string& teacher);
  /// The teacher is gone or starts anew: its leases wait again, its credit is void. Returns how many leases it held.
  int Release(const std::string& teacher);
  /// Leases past their deadline wait again. Returns how many.
  int Expire(Time now);

  int waiting() const { return static_cast<int>(waiting_.size()); }
  int leased() const { return static_cast<int>(leased_.size()); }
  std::int64_t redispatched() const { return redispatched_; }
  std::int64_t dropped() const { return dropped_; }

 private:
  struct Open {
    double cost = 1;
    std::uint32_t attempts = 0;
  };
  struct Held {
    std::string teacher;
    Time deadline;
  };
  struct Teacher {
    int credit = 0;
    bool suspended = false;
  };
  template <typename Predicate>
  int Requeue(Predicate matches);
  int HeldBy(const std::string& teacher) const;

  std::chrono::duration<double> lease_time_;
  std::set<std::uint64_t> waiting_;
  std::map<std::uint64_t, Held> leased_;
  std::map<std::uint64_t, Open> open_;  // tickets that wait or are leased
  std::set<std::uint64_t> scored_;      // the newest of them; older ones are below scored_below_
  std::uint64_t scored_below_ = 0;
  std::map<std::string, Teacher> teachers_;
  std::int64_t redispatched_ = 0, dropped_ = 0;
};

}  // namespace sgmd
