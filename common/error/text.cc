#include "common/error/text.h"

#include <algorithm>

namespace sgmd {
namespace {

// A name is near when at most so many edits lead to it, and they leave half of it as it was.
constexpr std::size_t kNear = 3;

// Levenshtein distance.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string Joined(const std::vector<std::string>& texts, std::string_view separator) {
  std::string all;
  for (std::size_t i = 0; i < texts.size(); ++i) all.append(i > 0 ? separator : "").append(texts[i]);
  return all;
}

std::string FirstLine(std::string_view text) { return std::string(text.substr(0, text.find('\n'))); }

std::string NearestHint(const std::string& wrong, const std::vector<std::string>& known) {
  const auto distance = [&](const std::string& name) { return EditDistance(name, wrong); };
  const auto nearest = std::ranges::min_element(known, {}, distance);
  const auto near = [&](const std::string& name) {
    return distance(name) <= kNear && 2 * distance(name) <= std::max(name.size(), wrong.size());
  };
  if (nearest != known.end() && near(*nearest)) return "did you mean \"" + *nearest + "\"?";
  return "known here: " + Joined(known, ", ");
}

}  // namespace sgmd
