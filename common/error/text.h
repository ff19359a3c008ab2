// Texts for people.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sgmd {

/// The texts with `separator` between them.
inline std::string Joined(const std::vector<std::string>& texts, std::string_view separator = " ") {
  std::string all;
  for (std::size_t i = 0; i < texts.size(); ++i) all.append(i > 0 ? separator : "").append(texts[i]);
  return all;
}

}  // namespace sgmd
