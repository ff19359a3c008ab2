#include "nodes/broker/open_leases.h"

namespace sgmd {

void OpenLeases::Add(OpenLease lease) {
  const Key key{lease.ticket, lease.attempt};
  by_teacher_[lease.teacher].insert(key);
  by_age_[lease.kind].insert({lease.since, key});
  by_deadline_.insert({lease.deadline, key});
  all_.emplace(key, std::move(lease));
}

OpenLease OpenLeases::Take(const Key& key) {
  OpenLease lease = std::move(all_.extract(key).mapped());
  const auto holder = by_teacher_.find(lease.teacher);
  holder->second.erase(key);
  if (holder->second.empty()) by_teacher_.erase(holder);
  by_age_.at(lease.kind).erase({lease.since, key});
  by_deadline_.erase({lease.deadline, key});
  return lease;
}

std::optional<OpenLease> OpenLeases::Take(const std::string& teacher, std::uint64_t ticket, std::uint32_t attempt) {
  const auto it = all_.find({ticket, attempt});
  if (it == all_.end() || it->second.teacher != teacher) return {};
  return Take(Key(it->first));
}

std::vector<OpenLease> OpenLeases::TakeAllOf(const std::string& teacher) {
  std::vector<OpenLease> taken;
  for (auto it = by_teacher_.find(teacher); it != by_teacher_.end(); it = by_teacher_.find(teacher)) {
    taken.push_back(Take(Key(*it->second.begin())));
  }
  return taken;
}

std::vector<OpenLease> OpenLeases::TakeLate(Time now) {
  std::vector<OpenLease> taken;
  while (!by_deadline_.empty() && by_deadline_.begin()->first <= now) {
    taken.push_back(Take(Key(by_deadline_.begin()->second)));
  }
  return taken;
}

int OpenLeases::HeldBy(const std::string& teacher) const {
  const auto holder = by_teacher_.find(teacher);
  return holder == by_teacher_.end() ? 0 : static_cast<int>(holder->second.size());
}

int OpenLeases::CountOf(std::uint64_t ticket) const {
  int count = 0;
  for (auto it = all_.lower_bound({ticket, 0}); it != all_.end() && it->first.first == ticket; ++it) ++count;
  return count;
}

}  // namespace sgmd
