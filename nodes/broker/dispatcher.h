// Which teacher scores which sample: leases, credit, re-dispatch. A state machine without sockets or clocks of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "nodes/broker/open_leases.h"
#include "nodes/broker/recent_durations.h"

namespace sgmd {

/// State of a ticket, and what moves it:
///
///   from      event                               to
///   -         Add                                 waiting, or aside where it is not wanted yet; true
///   any       Add                                 unchanged, false
///   aside     Want                                waiting
///   waiting   NextLease (a teacher has credit)    leased; this teacher holds it under this attempt
///   leased    NextLease (its one lease is slow)   leased twice; the first holder is slow, the second is not
///   leased    Answer of a teacher that Holds it,  scored, true: the first answer fills the slot, also one that comes
///   (twice),  or Fill from the store              late: a score is the same whoever computes it
///   waiting,
///   aside
///   leased    Expire, Suspend or Release          waiting, at its old place in the order
///   twice     Expire, Suspend or Release          leased, by the other one
///   scored, - Fill, Answer                        unchanged, false: dropped and counted
///
/// A lease is slow once it is open for longer than twice the 95th percentile of the time in which the quickest teacher
/// has answered work of its kind of late, and for kLeastSlow. The quickest, because a teacher that is always slow would
/// be its own measure otherwise. There is no such time before a teacher has answered RecentDurations::kLeast.
///
/// A teacher holds a ticket under each attempt that it was given, also after the lease expired, until the ticket is
/// scored or the teacher is released. Its lease is open until it answers, also when another answer has come first: it
/// still computes.
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
/// Beside that, it is slow from when its lease is given to a second teacher until it answers before a lease is slow. A
/// slow teacher has one open lease at a time and is never the second one.
///
/// A teacher has credit for as many leases as it has asked for by AddCredit and not been given since. It keeps its
/// credit while it is overdue or suspended; Release voids it.
class Dispatcher {
 public:
  using Time = OpenLease::Time;
  static constexpr std::chrono::milliseconds kLeastSlow{500};  // a second lease costs more than it saves before that

  struct Work {
    double cost = 1;  // > 0: how many times the work of a score it is; its leases last as many times as long
    int kind = 0;     // whose durations it is held against
  };
  struct Lease {
    std::uint64_t ticket = 0;
    std::string teacher;
    std::uint32_t attempt = 1;  // counts the leases of this ticket
  };

  /// `lease_time`: an unanswered lease goes to the next teacher after this long.
  explicit Dispatcher(std::chrono::duration<double> lease_time) : lease_time_(lease_time) {}

  /// Tickets are served in ascending order. One that is not `wanted` is set aside: the store may have an answer. False
  /// when this one has been here before.
  bool Add(std::uint64_t ticket, Work work, bool wanted = true);
  bool Add(std::uint64_t ticket) { return Add(ticket, Work{}); }
  /// A ticket that is aside is for a teacher.
  void Want(std::uint64_t ticket);
  void AddCredit(const std::string& teacher, int count);
  /// The lowest ticket that waits or has one slow lease. It goes to the teacher with credit that has the fewest open
  /// leases; of several to one that was not measured yet, then to the fastest; the second lease to none that holds it.
  /// Nothing when either lacks. It costs the logarithm of the numbers of tickets, leases and teachers, and a look at
  /// every lease that is slow.
  std::optional<Lease> NextLease(Time now);
  /// Whether `teacher` was given this ticket, which must not be scored, under this attempt.
  bool Holds(const std::string& teacher, std::uint64_t ticket, std::uint32_t attempt) const;
  /// There is an answer in the store. True when it fills the slot.
  bool Fill(std::uint64_t ticket);
  /// A teacher's answer, whoever's it is to use: its time is measured. True when it fills the slot.
  bool Answer(const std::string& teacher, std::uint64_t ticket, std::uint32_t attempt, Time now);
  /// The teacher has sent an answer: it does not hang.
  void Heard(const std::string& teacher);
  /// The teacher does not answer: its leases wait again and it gets no others. Returns how many wait again.
  int Suspend(const std::string& teacher);
  /// It is alive, which does not say that it works.
  void Resume(const std::string& teacher);
  /// The teacher is gone or starts anew: its leases wait again, its credit is void, and it holds nothing. Returns how
  /// many wait again.
  int Release(const std::string& teacher);
  /// Leases past their deadline wait again, and whoever had them is overdue. Returns their names, one a lease.
  std::vector<std::string> Expire(Time now);

  int waiting() const { return static_cast<int>(waiting_.size()); }
  /// Tickets, not leases.
  int leased() const { return static_cast<int>(open_.size() - waiting_.size() - aside_.size()); }
  std::int64_t redispatched() const { return redispatched_; }
  std::int64_t speculated() const { return speculated_; }
  std::int64_t dropped() const { return dropped_; }

 private:
  struct Open {
    Work work;
    std::vector<std::string> holders;  // by attempt - 1; empty once released
  };
  // The order in which teachers are chosen.
  struct Rank {
    int held = 0;        // open leases
    double seconds = 0;  // Teacher::seconds
    std::string name;
    auto operator<=>(const Rank&) const = default;
  };
  struct Teacher {
    int credit = 0;
    bool suspended = false, overdue = false, slow = false;
    std::map<int, RecentDurations> answered;  // by kind of work, from lease to answer
    double seconds = 0;                       // that the work of a score takes it, of late; 0: not measured
    Time last_answer{};
    std::optional<Rank> rank;  // in ranks_, where it may be chosen
  };
  using Times = std::set<std::pair<double, std::string>>;  // 95th percentile, teacher

  int Requeue(const std::vector<OpenLease>& leases);
  bool IsSlow(const OpenLease& lease, Time now) const;
  const OpenLease* LowestSlow(Time now) const;
  std::optional<std::string> Choose(const Open& open, bool second) const;
  Lease Grant(std::uint64_t ticket, const std::string& teacher, Time now);
  void Measure(const OpenLease& lease, Time now);
  void PutInOrder(const std::string& teacher);

  std::chrono::duration<double> lease_time_;
  std::set<std::uint64_t> waiting_, aside_;
  OpenLeases leases_;                   // also of scored tickets, until their teacher answers
  std::map<std::uint64_t, Open> open_;  // tickets that wait, are aside or leased
  std::set<std::uint64_t> scored_;      // the newest of them; older ones are below scored_below_
  std::uint64_t scored_below_ = 0;
  std::map<std::string, Teacher> teachers_;
  std::set<Rank> ranks_;        // of the teachers that may be chosen
  std::map<int, Times> times_;  // in which teachers answer, by kind of work: the quickest first
  std::int64_t redispatched_ = 0, speculated_ = 0, dropped_ = 0;
};

}  // namespace sgmd
