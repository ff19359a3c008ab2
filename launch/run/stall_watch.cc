#include "launch/run/stall_watch.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr int kInARow = 3;
using nlohmann::json;

std::string WhyOf(const json& node) {
  const auto seconds = [&](const char* key) { return std::llround(node.value(key, 0.0)); };
  if (node.value("state", "") == "silent") return StrCat("gave no sign of life for ", seconds("silent_seconds"), " s");
  return StrCat("made no progress for ", seconds("idle_seconds"), " s while it worked");
}

}  // namespace

std::vector<StallWatch::Stalled> StallWatch::OnStatus(const std::string& status_json) {
  const json status = json::parse(status_json);
  std::vector<Stalled> stalled;
  std::map<std::string, int> counts;
  for (const json& node : status.value("nodes", json::array())) {
    const std::string name = node.value("name", "");
    if (!node.value("stalled", false)) continue;
    counts[name] = counts_[name] + 1;
    if (counts[name] == kInARow) stalled.push_back({name, WhyOf(node)});
  }
  counts_ = std::move(counts);
  return stalled;
}

}  // namespace sgmd
