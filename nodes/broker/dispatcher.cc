#include "nodes/broker/dispatcher.h"

#include <algorithm>

namespace sgmd {
namespace {

constexpr std::size_t kScoredRemembered = 4096;    // tickets: far more than are ever in flight
constexpr double kSlowFactor = 2, kNewest = 0.25;  // weight of the newest answer in a teacher's speed

double Seconds(Dispatcher::Time::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

bool Dispatcher::Add(std::uint64_t ticket, Work work, bool wanted) {
  if (ticket < scored_below_ || scored_.contains(ticket)) return false;
  if (!open_.emplace(ticket, Open{work, {}}).second) return false;
  (wanted ? waiting_ : aside_).insert(ticket);
  return true;
}

void Dispatcher::Want(std::uint64_t ticket) {
  if (aside_.erase(ticket) > 0) waiting_.insert(ticket);
}

void Dispatcher::AddCredit(const std::string& teacher, int count) {
  Teacher& entry = teachers_[teacher];
  entry.credit += std::max(count, 0);
  entry.suspended = entry.overdue = false;
  PutInOrder(teacher);
}

// After anything of it has changed.
void Dispatcher::PutInOrder(const std::string& name) {
  Teacher& teacher = teachers_.at(name);
  if (teacher.rank) ranks_.erase(*teacher.rank);
  teacher.rank.reset();
  const int held = leases_.HeldBy(name);
  if (teacher.credit == 0 || teacher.suspended || teacher.overdue || (teacher.slow && held > 0)) return;
  teacher.rank = {held, teacher.seconds, name};
  ranks_.insert(*teacher.rank);
}

bool Dispatcher::IsSlow(const OpenLease& lease, Time now) const {
  if (now - lease.since <= kLeastSlow) return false;
  const auto times = times_.find(lease.kind);
  if (times == times_.end() || times->second.empty()) return false;
  return Seconds(now - lease.since) > kSlowFactor * times->second.begin()->first;
}

// Of those that have no second lease and that another teacher can take.
const OpenLease* Dispatcher::LowestSlow(Time now) const {
  const OpenLease* lowest = nullptr;
  for (const auto& [kind, times] : times_) {
    leases_.VisitOldest(kind, [&](const OpenLease& lease) {
      if (!IsSlow(lease, now)) return false;
      const auto open = open_.find(lease.ticket);
      if (open == open_.end() || (lowest != nullptr && lease.ticket > lowest->ticket)) return true;
      if (leases_.CountOf(lease.ticket) == 1 && Choose(open->second, /*second=*/true)) lowest = &lease;
      return true;
    });
  }
  return lowest;
}

// Nothing when there is none.
std::optional<std::string> Dispatcher::Choose(const Open& open, bool second) const {
  for (const Rank& rank : ranks_) {
    const bool refused =
        second && (teachers_.at(rank.name).slow || std::ranges::find(open.holders, rank.name) != open.holders.end());
    if (!refused) return rank.name;
  }
  return {};
}

std::optional<Dispatcher::Lease> Dispatcher::NextLease(Time now) {
  const OpenLease* slow = LowestSlow(now);
  if (slow != nullptr && (waiting_.empty() || slow->ticket < *waiting_.begin())) {
    const std::uint64_t ticket = slow->ticket;
    teachers_.at(slow->teacher).slow = true;
    PutInOrder(slow->teacher);
    ++speculated_;
    return Grant(ticket, *Choose(open_.at(ticket), /*second=*/true), now);
  }
  if (waiting_.empty()) return {};
  const std::uint64_t ticket = *waiting_.begin();
  const auto teacher = Choose(open_.at(ticket), /*second=*/false);
  if (!teacher) return {};
  waiting_.erase(waiting_.begin());
  return Grant(ticket, *teacher, now);
}

Dispatcher::Lease Dispatcher::Grant(std::uint64_t ticket, const std::string& teacher, Time now) {
  Open& open = open_.at(ticket);
  open.holders.push_back(teacher);
  const auto attempt = static_cast<std::uint32_t>(open.holders.size());
  const auto lasts = std::chrono::duration_cast<Time::duration>(open.work.cost * lease_time_);
  leases_.Add({ticket, attempt, teacher, open.work.cost, open.work.kind, now, now + lasts});
  --teachers_.at(teacher).credit;
  PutInOrder(teacher);
  return {ticket, teacher, attempt};
}

bool Dispatcher::Holds(const std::string& teacher, std::uint64_t ticket, std::uint32_t attempt) const {
  const auto it = open_.find(ticket);
  if (it == open_.end() || attempt == 0 || attempt > it->second.holders.size()) return false;
  return it->second.holders[attempt - 1] == teacher;
}

bool Dispatcher::Fill(std::uint64_t ticket) {
  if (open_.erase(ticket) == 0) {
    ++dropped_;
    return false;
  }
  waiting_.erase(ticket);
  aside_.erase(ticket);
  scored_.insert(ticket);
  if (scored_.size() > kScoredRemembered) {
    scored_below_ = *scored_.begin() + 1;
    scored_.erase(scored_.begin());
  }
  return true;
}

bool Dispatcher::Answer(const std::string& teacher, std::uint64_t ticket, std::uint32_t attempt, Time now) {
  if (const auto lease = leases_.Take(teacher, ticket, attempt)) {
    Measure(*lease, now);
    PutInOrder(teacher);
  }
  return Fill(ticket);
}

void Dispatcher::Measure(const OpenLease& lease, Time now) {
  Teacher& teacher = teachers_.at(lease.teacher);
  if (!IsSlow(lease, now)) teacher.slow = false;
  RecentDurations& answered = teacher.answered[lease.kind];
  Times& times = times_[lease.kind];
  if (const auto before = answered.Percentile95()) times.erase({*before, lease.teacher});
  answered.Add(Seconds(now - lease.since));
  if (const auto after = answered.Percentile95()) times.insert({*after, lease.teacher});
  // It computes one lease after the other.
  const double seconds = Seconds(now - std::max(lease.since, teacher.last_answer)) / lease.cost;
  teacher.seconds = teacher.seconds == 0 ? seconds : (1 - kNewest) * teacher.seconds + kNewest * seconds;
  teacher.last_answer = now;
}

// Their tickets wait again where nobody else has them. Returns how many do.
int Dispatcher::Requeue(const std::vector<OpenLease>& leases) {
  int count = 0;
  for (const OpenLease& lease : leases) {
    const bool wanted = open_.contains(lease.ticket) && leases_.CountOf(lease.ticket) == 0;
    if (wanted && waiting_.insert(lease.ticket).second) ++count;
  }
  redispatched_ += count;
  return count;
}

int Dispatcher::Suspend(const std::string& teacher) {
  const int count = Requeue(leases_.TakeAllOf(teacher));
  if (const auto it = teachers_.find(teacher); it != teachers_.end()) {
    it->second.suspended = true;
    PutInOrder(teacher);
  }
  return count;
}

void Dispatcher::Heard(const std::string& teacher) {
  if (const auto it = teachers_.find(teacher); it != teachers_.end()) {
    it->second.suspended = it->second.overdue = false;
    PutInOrder(teacher);
  }
}

void Dispatcher::Resume(const std::string& teacher) {
  if (const auto it = teachers_.find(teacher); it != teachers_.end()) {
    it->second.suspended = false;
    PutInOrder(teacher);
  }
}

int Dispatcher::Release(const std::string& teacher) {
  if (const auto it = teachers_.find(teacher); it != teachers_.end()) {
    if (it->second.rank) ranks_.erase(*it->second.rank);
    for (const auto& [kind, answered] : it->second.answered) {
      if (const auto time = answered.Percentile95()) times_.at(kind).erase({*time, teacher});
    }
    teachers_.erase(it);
  }
  for (auto& [ticket, open] : open_) std::ranges::replace(open.holders, teacher, std::string());
  return Requeue(leases_.TakeAllOf(teacher));
}

std::vector<std::string> Dispatcher::Expire(Time now) {
  const std::vector<OpenLease> late = leases_.TakeLate(now);
  Requeue(late);
  std::vector<std::string> names;
  for (const OpenLease& lease : late) {
    teachers_.at(lease.teacher).overdue = true;
    PutInOrder(lease.teacher);
    names.push_back(lease.teacher);
  }
  return names;
}

}  // namespace sgmd
