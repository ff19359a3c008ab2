#include "launch/state/state_text.h"

#include <cstdio>

#include "common/error/error.h"
#include "common/metrics/progress.h"

namespace sgmd {
namespace {

using nlohmann::json;

template <typename... Values>
std::string Formatted(const char* form, Values... values) {
  char text[200];
  std::snprintf(text, sizeof text, form, values...);
  return text;
}

// An object of the broker's status; empty where it is not there.
json Part(const json& of, const char* key) { return of.is_object() ? of.value(key, json::object()) : json::object(); }

std::string StepText(const RunState& s) {
  return StrCat("step ", s.step, s.steps > 0 ? StrCat(" of ", s.steps) : std::string());
}

std::string NodeLine(const json& node) {
  const std::string state = node.value("state", node.value("alive", false) ? "alive" : "gone");
  return Formatted("  %-13s %-9s %7.1fs %7.1fs  %lld\n", node.value("name", "").c_str(), state.c_str(),
                   node.value("silent_seconds", 0.0), node.value("idle_seconds", 0.0),
                   static_cast<long long>(node.value("progress", 0LL)));
}

std::string LiveLines(const json& live) {
  const json cache = Part(live, "cache"), scalars = Part(live, "scalars");
  std::string text =
      StrCat("in flight  ", live.value("in_flight", 0), " leased, ", live.value("queued", 0), " waiting\ncache      ",
             cache.value("hits", 0), " hits, ", cache.value("misses", 0), " misses, ", cache.value("entries", 0),
             " entries, ", Formatted("%.1f MiB\n", cache.value("bytes", 0.0) / 1048576));
  for (const auto& [name, value] : scalars.items()) {
    if (name != "step" && value.is_number()) text += StrCat("  ", name, " ", value.get<double>(), "\n");
  }
  text += "  process       state       silent     idle  progress\n";
  for (const json& node : live.value("nodes", json::array())) text += NodeLine(node);
  return text;
}

}  // namespace

std::string PaceText(const RunState& s) {
  const json pace = Part(s.live, "pace");
  const double each = pace.value("seconds_per_step", 0.0);
  return each <= 0 ? std::string()
                   : StrCat(Formatted("%.2f", each), " s/step, ETA ", FormatDuration(pace.value("eta_seconds", 0.0)));
}

std::string StateLine(const RunState& s) {
  const std::string pace = PaceText(s), waiting = s.live.is_object() ? s.live.value("waiting_for", "") : "";
  return StrCat(s.state, ", ", StepText(s), pace.empty() ? "" : ", ", pace,
                waiting.empty() ? "" : ", waiting for: ", waiting, s.cause.empty() ? "" : ": ", s.cause);
}

std::string StateTable(const RunState& s) {
  const std::string pace = PaceText(s), waiting = s.live.is_object() ? s.live.value("waiting_for", "") : "";
  std::string text = StrCat("run        ", s.folder.string(), "\nstate      ", s.state,
                            s.since.empty() ? std::string() : StrCat(s.up() ? ", since " : ", at ", s.since), "\n");
  text += StrCat("step       ", s.step, " of ", s.steps, pace.empty() ? "" : ", ", pace, "\n");
  if (!waiting.empty()) text += StrCat("waiting    ", waiting, "\n");
  if (s.up()) text += StrCat("launcher   process ", s.holder->pid, " on ", s.holder->machine, "\n");
  if (!s.cause.empty()) text += StrCat("cause      ", s.cause, "\n");
  text += StrCat("student    ", s.student.empty() ? "none yet" : s.student.string(), "\n");
  if (s.live.is_object()) text += LiveLines(s.live);
  return StrCat(text, "next       ", s.NextCommand(), "\n");
}

}  // namespace sgmd
