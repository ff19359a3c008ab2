#include "launch/run/step_trace.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/error/text.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

using nlohmann::json;

constexpr std::size_t kNamesShown = 6;
constexpr double kLeastShown = 0.005;

struct Interval {
  double start, end;
  std::string name;
};

struct Window {
  double start, end;
};

json ParsedFile(const std::filesystem::path& file) try {
  std::ifstream in(file);
  return json::parse(in);
} catch (const json::exception& error) {
  throw Error(StrCat("this is not a trace: ", error.what()), file.string());
}

std::string KindOf(const json& event) { return event["args"].value("kind", ""); }

// The steps of the generator that were asked for, from the first's begin to the last's end.
std::optional<Window> WindowOf(const json& events, std::int64_t first, std::int64_t last) {
  std::optional<Window> window;
  for (const json& event : events) {
    if (event["name"] != "step") continue;
    const std::int64_t step = event["args"].value("step", std::int64_t{-1});
    if (step < first || step > last) continue;
    const double start = event["ts"], end = start + event["dur"].get<double>();
    if (!window) window = {start, end};
    *window = {std::min(window->start, start), std::max(window->end, end)};
  }
  return window;
}

// Of the main thread, within the window, in order of their begin, an outer one before what is nested in it. The spans
// that are the steps themselves say nothing.
std::vector<Interval> MainThread(const json& events, const Window& window) {
  std::vector<Interval> spans;
  for (const json& event : events) {
    if (event["ph"] != "X" || event["tid"] != event["pid"] || event["name"] == "step") continue;
    const double start = event["ts"], end = start + event["dur"].get<double>();
    const std::string kind = KindOf(event);
    const Interval span{std::max(start, window.start), std::min(end, window.end),
                        event["name"].get<std::string>() + (kind.empty() ? "" : " " + kind)};
    if (span.start < span.end) spans.push_back(span);
  }
  std::ranges::stable_sort(spans, [](const Interval& a, const Interval& b) {
    return a.start != b.start ? a.start < b.start : a.end > b.end;
  });
  return spans;
}

NamedTime TimeOf(const std::string& process, const std::vector<Interval>& spans, const Window& window) {
  const double length = window.end - window.start;
  NamedTime time{process, 0, {}};
  std::map<std::string, double> by;
  std::vector<const Interval*> open;
  double covered_to = window.start;
  for (const Interval& span : spans) {
    while (!open.empty() && open.back()->end <= span.start) open.pop_back();
    const double share = (span.end - span.start) / length;
    if (!open.empty()) by[open.back()->name] -= share;
    by[span.name] += share;
    open.push_back(&span);
    time.named += std::max(0.0, span.end - std::max(covered_to, span.start)) / length;
    covered_to = std::max(covered_to, span.end);
  }
  time.by.assign(by.begin(), by.end());
  std::ranges::sort(time.by, [](const auto& a, const auto& b) { return a.second > b.second; });
  return time;
}

std::string Percent(double share) {
  const auto tenths = std::lround(share * 1000);
  return StrCat(tenths / 10, ".", tenths % 10, " %");
}

}  // namespace

std::optional<StepTrace> ReadStepTrace(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) return {};
  std::map<std::string, json> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") files[entry.path().stem()] = ParsedFile(entry.path());
  }
  if (files.empty()) return {};
  StepTrace trace;
  trace.first = files.begin()->second.value("firstStep", std::int64_t{0});
  trace.last = files.begin()->second.value("lastStep", std::int64_t{0});
  json merged = json::array();
  for (const auto& [process, file] : files) {
    for (const json& event : file["traceEvents"]) merged.push_back(event);
  }
  const auto generator = files.find(Spell(Role::kGenerator));
  const auto window =
      generator != files.end() ? WindowOf(generator->second["traceEvents"], trace.first, trace.last) : std::nullopt;
  if (window) {
    trace.seconds = (window->end - window->start) / 1e6;
    for (const auto& [process, file] : files)
      trace.main_threads.push_back(TimeOf(process, MainThread(file["traceEvents"], *window), *window));
  }
  trace.json = json{{"traceEvents", std::move(merged)}}.dump();
  return trace;
}

std::vector<std::string> StepTraceLines(const StepTrace& trace) {
  std::vector<std::string> lines;
  for (const NamedTime& time : trace.main_threads) {
    std::vector<std::string> parts;
    for (const auto& [name, share] : time.by) {
      if (parts.size() < kNamesShown && share >= kLeastShown) parts.push_back(StrCat(name, " ", Percent(share)));
    }
    lines.push_back(StrCat("  ", time.process, std::string(12 - std::min<std::size_t>(11, time.process.size()), ' '),
                           Percent(time.named), " named: ", Joined(parts, ", ")));
  }
  return lines;
}

StepTraceCollector::StepTraceCollector(std::filesystem::path folder, std::filesystem::path merged,
                                       std::vector<std::string> processes)
    : folder_(std::move(folder)), merged_(std::move(merged)), processes_(std::move(processes)) {
  std::filesystem::remove_all(folder_);
}

std::vector<std::string> StepTraceCollector::Poll(bool at_end) {
  const auto has_written = [&](const std::string& process) {
    return std::filesystem::exists(folder_ / (process + ".json"));
  };
  if (done_ || (!at_end && !std::ranges::all_of(processes_, has_written))) return {};
  done_ = true;
  const auto trace = ReadStepTrace(folder_);
  if (!trace) return {"there is no trace: the run ended before the steps to record"};
  WriteFileAtomically(merged_, trace->json);
  std::vector<std::string> lines = StepTraceLines(*trace);
  lines.insert(lines.begin(),
               StrCat("trace of steps ", trace->first, " to ", trace->last, ", ", trace->seconds, " s, in ",
                      merged_.string(), " (chrome://tracing and Perfetto open it); main threads:"));
  return lines;
}

}  // namespace sgmd
