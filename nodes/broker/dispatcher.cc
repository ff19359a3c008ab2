#include "nodes/broker/dispatcher.h"

#include <algorithm>
#include <tuple>

namespace sgmd {
namespace {

constexpr std::size_t kScoredRemembered = 4096;    // tickets: far more than are ever in flight
constexpr double kSlowFactor = 2, kNewest = 0.25;  // weight of the newest answer in a teacher's speed

double Seconds(Dispatcher::Time::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

bool Dispatcher::Add(std::uint64_t ticket, Work work) {
  if (ticket < scored_below_ || scored_.contains(ticket)) return false;
  if (!open_.emplace(ticket, Open{work, {}}).second) return false;
  waiting_.insert(ticket);
  return true;
}

void Dispatcher::AddCredit(const std::string& teacher, int count) {
  Teacher& entry = teachers_[teacher];
  entry.credit += std::max(count, 0);
  entry.suspended = entry.overdue = false;
}

int Dispatcher::HeldBy(const std::string& teacher) const {
  return static_cast<int>(std::ranges::count(leases_, teacher, &Held::teacher));
}

bool Dispatcher::IsLeased(std::uint64_t ticket) const {
  return std::ranges::find(leases_, ticket, &Held::ticket) != leases_.end();
}

std::optional<double> Dispatcher::SlowAfter(int kind) const {
  std::optional<double> quickest;
  for (const auto& [name, teacher] : teachers_) {
    const auto answered = teacher.answered.find(kind);
    const auto time = answered == teacher.answered.end() ? std::nullopt : answered->second.Percentile95();
    if (time && (!quickest || *time < *quickest)) quickest = time;
  }
  if (!quickest) return {};
  return std::max(kSlowFactor * *quickest, Seconds(kLeastSlow));
}

bool Dispatcher::IsSlow(const Held& lease, Time now) const {
  if (now - lease.since <= kLeastSlow) return false;
  const auto slow_after = SlowAfter(lease.work.kind);
  return slow_after && Seconds(now - lease.since) > *slow_after;
}

// Of those that have no second lease and that another teacher can take.
const Dispatcher::Held* Dispatcher::LowestSlow(Time now) const {
  const Held* lowest = nullptr;
  for (const Held& lease : leases_) {
    const auto open = open_.find(lease.ticket);
    if (open == open_.end() || (lowest != nullptr && lease.ticket > lowest->ticket)) continue;
    if (std::ranges::count(leases_, lease.ticket, &Held::ticket) > 1 || !IsSlow(lease, now)) continue;
    if (Choose(open->second, /*second=*/true) != nullptr) lowest = &lease;
  }
  return lowest;
}

// Null when there is none.
const std::string* Dispatcher::Choose(const Open& open, bool second) const {
  const std::string* chosen = nullptr;
  std::tuple<int, double> least;
  for (const auto& [name, teacher] : teachers_) {
    if (teacher.credit == 0 || teacher.suspended || teacher.overdue) continue;
    const int held = HeldBy(name);
    if (teacher.slow && (second || held > 0)) continue;
    if (second && std::ranges::find(open.holders, name) != open.holders.end()) continue;
    const std::tuple<int, double> rank{held, teacher.seconds};
    if (chosen != nullptr && rank >= least) continue;
    chosen = &name;
    least = rank;
  }
  return chosen;
}

std::optional<Dispatcher::Lease> Dispatcher::NextLease(Time now) {
  const Held* slow = LowestSlow(now);
  if (slow != nullptr && (waiting_.empty() || slow->ticket < *waiting_.begin())) {
    const std::uint64_t ticket = slow->ticket;
    teachers_.at(slow->teacher).slow = true;
    ++speculated_;
    return Grant(ticket, *Choose(open_.at(ticket), /*second=*/true), now);
  }
  if (waiting_.empty()) return {};
  const std::uint64_t ticket = *waiting_.begin();
  const std::string* teacher = Choose(open_.at(ticket), /*second=*/false);
  if (teacher == nullptr) return {};
  waiting_.erase(waiting_.begin());
  return Grant(ticket, *teacher, now);
}

Dispatcher::Lease Dispatcher::Grant(std::uint64_t ticket, const std::string& teacher, Time now) {
  Open& open = open_.at(ticket);
  open.holders.push_back(teacher);
  const auto attempt = static_cast<std::uint32_t>(open.holders.size());
  const auto lasts = std::chrono::duration_cast<Time::duration>(open.work.cost * lease_time_);
  leases_.push_back({ticket, attempt, teacher, open.work, now, now + lasts});
  --teachers_.at(teacher).credit;
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
  scored_.insert(ticket);
  if (scored_.size() > kScoredRemembered) {
    scored_below_ = *scored_.begin() + 1;
    scored_.erase(scored_.begin());
  }
  return true;
}

bool Dispatcher::Answer(const std::string& teacher, std::uint64_t ticket, std::uint32_t attempt, Time now) {
  const auto lease = std::ranges::find_if(leases_, [&](const Held& held) {
    return held.ticket == ticket && held.attempt == attempt && held.teacher == teacher;
  });
  if (lease != leases_.end()) {
    Measure(*lease, now);
    leases_.erase(lease);
  }
  return Fill(ticket);
}

void Dispatcher::Measure(const Held& lease, Time now) {
  Teacher& teacher = teachers_.at(lease.teacher);
  if (!IsSlow(lease, now)) teacher.slow = false;
  teacher.answered[lease.work.kind].Add(Seconds(now - lease.since));
  // It computes one lease after the other.
  const double seconds = Seconds(now - std::max(lease.since, teacher.last_answer)) / lease.work.cost;
  teacher.seconds = teacher.seconds == 0 ? seconds : (1 - kNewest) * teacher.seconds + kNewest * seconds;
  teacher.last_answer = now;
}

template <typename Predicate>
int Dispatcher::Requeue(Predicate matches) {
  std::vector<std::uint64_t> freed;
  std::erase_if(leases_, [&](const Held& lease) {
    if (!matches(lease)) return false;
    freed.push_back(lease.ticket);
    return true;
  });
  int count = 0;
  for (const std::uint64_t ticket : freed) {
    if (open_.contains(ticket) && !IsLeased(ticket) && waiting_.insert(ticket).second) ++count;
  }
  redispatched_ += count;
  return count;
}

int Dispatcher::Suspend(const std::string& teacher) {
  if (const auto it = teachers_.find(teacher); it != teachers_.end()) it->second.suspended = true;
  return Requeue([&](const Held& held) { return held.teacher == teacher; });
}

void Dispatcher::Heard(const std::string& teacher) {
  if (const auto it = teachers_.find(teacher); it != teachers_.end()) it->second.suspended = it->second.overdue = false;
}

void Dispatcher::Resume(const std::string& teacher) {
  if (const auto it = teachers_.find(teacher); it != teachers_.end()) it->second.suspended = false;
}

int Dispatcher::Release(const std::string& teacher) {
  teachers_.erase(teacher);
  for (auto& [ticket, open] : open_) std::ranges::replace(open.holders, teacher, std::string());
  return Requeue([&](const Held& held) { return held.teacher == teacher; });
}

std::vector<std::string> Dispatcher::Expire(Time now) {
  std::vector<std::string> late;
  Requeue([&](const Held& held) {
    if (held.deadline > now) return false;
    late.push_back(held.teacher);
    return true;
  });
  for (const std::string& teacher : late) teachers_.at(teacher).overdue = true;
  return late;
}

}  // namespace sgmd
