#include "nodes/broker/dispatcher.h"

#include <algorithm>

namespace sgmd {

void Dispatcher::Add(std::uint64_t ticket) {
  if (attempts_.emplace(ticket, 0).second) waiting_.insert(ticket);
}

void Dispatcher::AddCredit(const std::string& teacher, int count) { credit_[teacher] += std::max(count, 0); }

int Dispatcher::HeldBy(const std::string& teacher) const {
  return static_cast<int>(
      std::count_if(leased_.begin(), leased_.end(), [&](const auto& lease) { return lease.second.teacher == teacher; }));
}

std::optional<Dispatcher::Lease> Dispatcher::NextLease(Time now) {
  if (waiting_.empty()) return {};
  const std::string* chosen = nullptr;
  int fewest = 0;
  for (const auto& [teacher, credit] : credit_) {
    const int held = HeldBy(teacher);
    if (credit > 0 && (chosen == nullptr || held < fewest)) {
      chosen = &teacher;
      fewest = held;
    }
  }
  if (chosen == nullptr) return {};
  const std::uint64_t ticket = *waiting_.begin();
  waiting_.erase(waiting_.begin());
  --credit_[*chosen];
  leased_[ticket] = {*chosen, now + std::chrono::duration_cast<Time::duration>(lease_time_)};
  return Lease{ticket, *chosen, ++attempts_[ticket]};
}

bool Dispatcher::Accept(std::uint64_t ticket) {
  if (attempts_.erase(ticket) == 0) {
    ++dropped_;
    return false;
  }
  waiting_.erase(ticket);
  leased_.erase(ticket);
  return true;
}

template <typename Predicate>
int Dispatcher::Requeue(Predicate matches) {
  int count = 0;
  for (auto it = leased_.begin(); it != leased_.end();) {
    if (!matches(it->second)) {
      ++it;
      continue;
    }
    waiting_.insert(it->first);
    it = leased_.erase(it);
    ++count;
  }
  redispatched_ += count;
  return count;
}

int Dispatcher::Release(const std::string& teacher) {
  credit_.erase(teacher);
  return Requeue([&](const Held& held) { return held.teacher == teacher; });
}

int Dispatcher::Expire(Time now) {
  return Requeue([&](const Held& held) { return held.deadline <= now; });
}

}  // namespace sgmd
