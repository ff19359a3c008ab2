#include "nodes/broker/dispatcher.h"

#include <algorithm>

namespace sgmd {
namespace {

constexpr std::size_t kScoredRemembered = 4096;  // tickets: far more than are ever in flight

}  // namespace

bool Dispatcher::Add(std::uint64_t ticket, double cost) {
  if (ticket < scored_below_ || scored_.contains(ticket)) return false;
  if (!open_.emplace(ticket, Open{cost, {}}).second) return false;
  waiting_.insert(ticket);
  return true;
}

void Dispatcher::AddCredit(const std::string& teacher, int count) {
  Teacher& entry = teachers_[teacher];
  entry.credit += std::max(count, 0);
  entry.suspended = entry.overdue = false;
}

int Dispatcher::HeldBy(const std::string& teacher) const {
  return static_cast<int>(std::count_if(leased_.begin(), leased_.end(),
                                        [&](const auto& lease) { return lease.second.teacher == teacher; }));
}

std::optional<Dispatcher::Lease> Dispatcher::NextLease(Time now) {
  if (waiting_.empty()) return {};
  auto chosen = teachers_.end();
  int fewest = 0;
  for (auto it = teachers_.begin(); it != teachers_.end(); ++it) {
    if (it->second.credit == 0 || it->second.suspended || it->second.overdue) continue;
    const int held = HeldBy(it->first);
    if (chosen != teachers_.end() && held >= fewest) continue;
    chosen = it;
    fewest = held;
  }
  if (chosen == teachers_.end()) return {};
  const std::uint64_t ticket = *waiting_.begin();
  waiting_.erase(waiting_.begin());
  --chosen->second.credit;
  Open& open = open_.at(ticket);
  leased_[ticket] = {chosen->first, now + std::chrono::duration_cast<Time::duration>(open.cost * lease_time_)};
  open.holders.push_back(chosen->first);
  return Lease{ticket, chosen->first, static_cast<std::uint32_t>(open.holders.size())};
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
  leased_.erase(ticket);
  scored_.insert(ticket);
  if (scored_.size() > kScoredRemembered) {
    scored_below_ = *scored_.begin() + 1;
    scored_.erase(scored_.begin());
  }
  return true;
}

template <typename Predicate>
int Dispatcher::Requeue(Predicate matches) {
  const auto count = std::erase_if(leased_, [&](const auto& lease) {
    if (!matches(lease.second)) return false;
    waiting_.insert(lease.first);
    return true;
  });
  redispatched_ += static_cast<std::int64_t>(count);
  return static_cast<int>(count);
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
