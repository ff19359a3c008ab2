// The leases that are open, in each order that the dispatcher asks for.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace sgmd {

/// What a teacher was given and has not answered.
struct OpenLease {
  using Time = std::chrono::steady_clock::time_point;

  std::uint64_t ticket = 0;
  std::uint32_t attempt = 1;  // counts the leases of this ticket
  std::string teacher;
  double cost = 1;  // of the work (Dispatcher::Work)
  int kind = 0;     // likewise
  Time since, deadline;
};

/// Owns them. No call looks at leases that it is not about: each costs the logarithm of their number, for every lease
/// that it returns.
class OpenLeases {
 public:
  using Time = OpenLease::Time;

  /// `lease`: of a ticket and attempt that has none yet.
  void Add(OpenLease lease);
  /// Nothing where `teacher` has no such lease.
  std::optional<OpenLease> Take(const std::string& teacher, std::uint64_t ticket, std::uint32_t attempt);
  std::vector<OpenLease> TakeAllOf(const std::string& teacher);
  /// Those whose deadline is `now` or was before.
  std::vector<OpenLease> TakeLate(Time now);

  int HeldBy(const std::string& teacher) const;
  /// How many this ticket has.
  int CountOf(std::uint64_t ticket) const;
  /// Those of one kind of work, the oldest first, for as long as `visit` returns true.
  template <typename Visit>
  void VisitOldest(int kind, Visit visit) const {
    const auto of_kind = by_age_.find(kind);
    if (of_kind == by_age_.end()) return;
    for (const auto& [since, key] : of_kind->second) {
      if (!visit(all_.at(key))) return;
    }
  }

 private:
  using Key = std::pair<std::uint64_t, std::uint32_t>;  // ticket, attempt
  using ByTime = std::set<std::pair<Time, Key>>;

  OpenLease Take(const Key& key);

  std::map<Key, OpenLease> all_;
  std::map<std::string, std::set<Key>> by_teacher_;
  std::map<int, ByTime> by_age_;  // by kind
  ByTime by_deadline_;
};

}  // namespace sgmd
