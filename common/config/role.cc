#include "common/config/role.h"

#include <charconv>

#include "common/error/error.h"

namespace sgmd {
namespace {

// The number after the last `separator` of `text`, which is cut off there; nothing where there is no such tail.
std::optional<int> CutNumber(std::string_view& text, char separator) {
  const std::size_t at = text.rfind(separator);
  if (at == std::string_view::npos) return {};
  const char* const end = text.data() + text.size();
  int number = 0;
  const auto [rest, error] = std::from_chars(text.data() + at + 1, end, number);
  if (error != std::errc() || rest != end || number < 0) return {};
  text = text.substr(0, at);
  return number;
}

}  // namespace

std::string Spell(const NodeName& name) {
  return StrCat(Spell(name.role), name.role == Role::kTeacher ? StrCat(".", name.replica) : "",
                name.rank > 0 ? StrCat("/", name.rank) : "");
}

std::optional<NodeName> ParseNodeName(std::string_view text) {
  NodeName name;
  std::string_view rest = text;
  name.rank = CutNumber(rest, '/').value_or(0);
  name.replica = CutNumber(rest, '.').value_or(0);
  for (int i = 0; i < kRoleCount; ++i) {
    if (rest == Spell(static_cast<Role>(i))) name.role = static_cast<Role>(i);
  }
  if (Spell(name) != text) return {};
  return name;
}

std::string SpeakerOf(std::string_view process) {
  auto name = ParseNodeName(process);
  if (!name) return std::string(process);
  name->rank = 0;
  return Spell(*name);
}

bool IsOf(Role role, std::string_view process) {
  const auto name = ParseNodeName(process);
  return name && name->role == role;
}

}  // namespace sgmd
