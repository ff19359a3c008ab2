#include "nodes/broker/members.h"

#include "common/log/log.h"

namespace sgmd {

double Members::Member::SilentSeconds() const {
  return std::chrono::duration<double>(Clock::now() - last_beat).count();
}

bool Members::Joined(const std::string& name) const {
  const auto it = members_.find(name);
  return it != members_.end() && it->second.joined;
}

bool Members::TakenByAnother(const std::string& name, std::uint64_t process) const {
  return Joined(name) && members_.at(name).process != process;
}

void Members::Welcome(const std::string& name, std::uint64_t process) {
  Member& member = members_[name];
  if (!member.joined || member.process != process) LogInfo(name, " joined");
  member.joined = member.alive = true;
  member.process = process;
  member.last_beat = Clock::now();
  SendNow(name, ToEnvelope(message::Welcome{}));
  SendWaiting(name, member);
}

bool Members::OnBeat(const std::string& name, const message::Beat& beat) {
  Member& member = members_[name];
  member.last_beat = Clock::now();
  member.progress = beat.progress;
  for (const auto& [metric, value] : beat.metrics) member.metrics[metric] = value;
  if (member.alive || !member.joined) return false;
  member.alive = true;
  return true;
}

std::vector<std::string> Members::SilentNow() const {
  std::vector<std::string> silent;
  for (const auto& [name, member] : members_) {
    if (member.joined && member.alive && member.SilentSeconds() > silence_seconds_) silent.push_back(name);
  }
  return silent;
}

bool Members::Remove(const std::string& name) {
  const auto it = members_.find(name);
  if (it == members_.end()) return false;
  const bool joined = it->second.joined;
  it->second.joined = it->second.alive = false;
  return joined;
}

void Members::Forward(const std::string& name, const Envelope& envelope) {
  Member& member = members_[name];
  member.outbox.push_back(envelope);
  SendWaiting(name, member);
}

void Members::SendWaiting() {
  for (auto& [name, member] : members_) SendWaiting(name, member);
}

void Members::SendWaiting(const std::string& name, Member& member) {
  while (member.joined && !member.outbox.empty() && data_.Send(name, member.outbox.front())) member.outbox.pop_front();
}

void Members::TellAll(Envelope envelope) {
  envelope = Stamped(std::move(envelope));
  SendWaiting();
  for (const auto& [name, member] : members_) {
    if (member.joined) data_.Send(name, envelope);
  }
}

Envelope Members::Stamped(Envelope envelope) const {
  Stamp(envelope, broker_);
  return envelope;
}

}  // namespace sgmd
