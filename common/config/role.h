// Names of a run's processes, spelt and parsed here alone.
//
//   generator        the role: there is one of it (broker, generator, fake_score, evaluator, launcher)
//   teacher.3        the role and which replica of it: of teachers there is any number
//   generator/1      and which rank of the group that the role is, or the replica (teacher.3/1); rank 0, which speaks
//                    for the group, is not spelt
#pragma once

#include <compare>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace sgmd {

enum class Role { kBroker, kGenerator, kFakeScore, kTeacher, kEvaluator, kLauncher };
inline constexpr int kRoleCount = 6;

/// "fake_score".
constexpr const char* Spell(Role role) {
  constexpr const char* kSpellings[] = {"broker", "generator", "fake_score", "teacher", "evaluator", "launcher"};
  return kSpellings[static_cast<std::size_t>(role)];
}

struct NodeName {
  Role role = Role::kBroker;
  int replica = 0;  // of a teacher; else 0
  int rank = 0;     // in the group
  auto operator<=>(const NodeName&) const = default;
};

std::string Spell(const NodeName& name);
/// Nothing when `text` is not exactly what Spell makes of a name. Launchers of further hosts ("launcher.<host>") and
/// clients ("client.<machine>.<pid>") are visitors of a run and have no such name.
std::optional<NodeName> ParseNodeName(std::string_view text);

/// Whether `process` is the name of a process of `role`.
bool IsOf(Role role, std::string_view process);
inline bool IsTeacher(std::string_view process) { return IsOf(Role::kTeacher, process); }
/// Rank 0 of the group that `process` is of; `process` where it is of none.
std::string SpeakerOf(std::string_view process);
/// Whether it is that of a teacher, which the broker leases work to.
inline bool SpeaksForTeacher(std::string_view process) { return IsTeacher(process) && SpeakerOf(process) == process; }

}  // namespace sgmd
