#include "launch/logs/log_entry.h"

#include <cctype>

namespace sgmd {

std::string_view TimeOf(std::string_view line) {
  constexpr std::string_view kForm = "dddd-dd-dd dd:dd:dd.ddd ";
  if (line.size() < kForm.size()) return {};
  for (std::size_t i = 0; i < kForm.size(); ++i) {
    const bool fits = kForm[i] == 'd' ? std::isdigit(static_cast<unsigned char>(line[i])) != 0 : line[i] == kForm[i];
    if (!fits) return {};
  }
  return line.substr(0, kForm.size() - 1);
}

}  // namespace sgmd
