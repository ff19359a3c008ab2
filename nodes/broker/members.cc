#include "nodes/broker/members.h"

#include <algorithm>

#include "common/log/log.h"

namespace sgmd {

bool Members::Joined(const std::string& name) const {
  const auto it = members_.find(name);
  return it != members_.end() && it->second.joined;
}

bool Members::TakenByAnother(const std::string& name, std::uint64_t process) const {
  const auto it = members_.find(name);
  if (it == members_.end() || !it->second.joined) return false;
  return it->second.process != 0 && it->second.process != process;
}

void Members::Welcome(const std::string& name, const Server::Incoming& hello) {
  Member& member = members_[name];
  const std::uint64_t process = hello.envelope.process;
  if (member.process != 0 && member.process != process) replaced_.insert(member.process);
  if (!member.joined || member.process != process) {
    LogInfo(name, " joined");
    member.heard = member.moved = clock_.Seconds();
    member.progress = 0;
    member.suspended = member.waiting = false;
  }
  member.joined = true;
  member.gone = false;
  member.process = process;
  data_.Welcome(hello);
}

void Members::Expect(const std::string& rank) {
  Member& member = members_[rank];
  if (member.joined) return;
  if (member.process != 0) replaced_.insert(member.process);
  member = {};
  member.joined = member.beats_only = true;
  member.heard = member.moved = clock_.Seconds();
}

bool Members::OnBeat(const std::string& name, std::uint64_t process, const message::Beat& beat,
                     const std::string& pipe) {
  if (WasReplaced(process) || TakenByAnother(name, process)) return false;
  Member& member = members_[name];
  if (member.gone && member.process == process) return false;  // its last beat, after it left
  member.heard = clock_.Seconds();
  if (member.beats_only && member.process == 0) {
    LogInfo(name, " joined");
    member.process = process;
  }
  // A member that waits does not stand still: what it does next begins now.
  if (beat.progress != member.progress || beat.waiting || !member.joined) member.moved = clock_.Seconds();
  member.progress = beat.progress;
  member.waiting = beat.waiting;
  member.control_pipe = pipe;
  for (const auto& [metric, value] : beat.metrics) member.metrics[metric] = value;
  if (!member.suspended || StateOf(member) == State::kStalled) return false;
  member.suspended = false;
  return true;
}

Members::State Members::StateOf(const Member& member) const {
  if (!member.joined) return member.gone ? State::kGone : State::kStarting;
  if (SilentSeconds(member) > limits_.silence_seconds) return State::kSilent;
  if (member.waiting) return State::kWaiting;
  return IdleSeconds(member) > limits_.stall_seconds ? State::kStalled : State::kWorking;
}

std::vector<std::string> Members::Unwell() const {
  std::vector<std::string> names;
  for (const auto& [name, member] : members_) {
    const State state = StateOf(member);
    if (!member.suspended && (state == State::kStalled || state == State::kSilent)) names.push_back(name);
  }
  return names;
}

bool Members::Remove(const std::string& name) {
  const auto it = members_.find(name);
  if (it == members_.end() || !it->second.joined) return false;
  it->second.joined = false;
  it->second.gone = true;
  return true;
}

void Members::PostToAll(const Envelope& envelope) {
  for (const auto& [name, member] : members_) {
    if (member.joined && !member.beats_only) data_.Post(name, envelope);
  }
}

bool Members::AllHaveAll() const {
  return std::all_of(members_.begin(), members_.end(), [&](const auto& entry) {
    const auto& [name, member] = entry;
    return !member.joined || member.beats_only || data_.HasAll(name);
  });
}

const char* Spell(Members::State state) {
  constexpr const char* kSpellings[] = {"starting", "working", "waiting", "stalled", "silent", "gone"};
  return kSpellings[static_cast<std::size_t>(state)];
}

}  // namespace sgmd
