// Which teacher scores which sample: leases, credit, re-dispatch. A state machine without sockets or clocks of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace sgmd {

/// State of a ticket, and what moves it:
///
///   from      event                               to
///   -         Add                                 waiting, true
///   any       Add                                 unchanged, false
///   waiting   NextLease (a teacher has credit)    leased; this teacher holds it under this attempt
///   leased    Fill (stored, or any answer of a    scored, true: the first answer fills the slot
///             teacher that Holds it)
///   waiting   Fill (stored, or a late answer)     scored, true: a score is the same whoever computes it
///   leased    Expire, Suspend or Release          waiting, at its old place in the order
///   scored, - Fill                                unchanged, false: dropped and counted
///
/// A teacher holds a ticket under each attempt that it was given, also after the lease expired, until the ticket is
/// scored or the teacher is released.
///
/// State of a teacher, and what moves it:
///
///   from      event                               to
///   -         AddCredit                           free
///   free      Expire of a lease of it             overdue: its other leases stay, it gets no more
///   overdue   AddCredit, Heard                    free
///   free, overdue  Suspend                        suspended: its leases wait again, it gets no more
///   suspended AddCredit, Heard, Resume            free, or overdue if Resume found it so
///   any       Release                             -
///
/// A teacher has credit for as many leases as it has asked for by AddCredit and not been given since. It keeps its
/// credit while it is overdue or suspended; Release voids it.
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
  /// Whether `teacher` was given this ticket, which must not be scored, under this attempt.
  bool Holds(const std::string& teacher, std::uint64_t ticket, std::uint32_t attempt) const;
  /// There is an answer. True when it fills the slot.
  bool Fill(std::uint64_t ticket);
  /// The teacher has sent an answer: it does not hang.
  void Heard(const std::string& teacher);
  /// The teacher does not answer: its leases wait again and it gets no others. Returns how many leases it held.
  int Suspend(const std::string& teacher);
  /// It is alive, which does not say that it works.
  void Resume(const std::string& teacher);
  /// The teacher is gone or starts anew: its leases wait again, its credit is void, and it holds nothing. Returns how
  /// many leases it had.
  int Release(const std::string& teacher);
  /// Leases past their deadline wait again, and whoever had them is overdue. Returns their names, one a lease.
  std::vector<std::string> Expire(Time now);

  int waiting() const { return static_cast<int>(waiting_.size()); }
  int leased() const { return static_cast<int>(leased_.size()); }
  std::int64_t redispatched() const { return redispatched_; }
  std::int64_t dropped() const { return dropped_; }

 private:
  struct Open {
    double cost = 1;
    std::vector<std::string> holders;  // by attempt - 1; empty once released
  };
  struct Held {
    std::string teacher;
    Time deadline;
  };
  struct Teacher {
    int credit = 0;
    bool suspended = false, overdue = false;
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
