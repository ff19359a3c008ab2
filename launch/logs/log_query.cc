#include "launch/logs/log_query.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "common/config/run_folder.h"
#include "common/error/error.h"
#include "common/error/text.h"
#include "launch/logs/backward_reader.h"

namespace sgmd {
namespace {

// "45s", "10m", "2h", "3d" in seconds.
std::optional<std::time_t> Duration(const std::string& text) {
  static const std::regex form("([0-9]{1,7})([smhd])");
  std::smatch match;
  if (!std::regex_match(text, match, form)) return {};
  const char unit = match[2].str()[0];
  return std::stol(match[1]) * (unit == 's' ? 1 : unit == 'm' ? 60 : unit == 'h' ? 3600 : 86400);
}

// Reads what differs from midnight of today.
std::optional<std::tm> PointInTime(const std::string& text, std::tm today) {
  today.tm_hour = today.tm_min = today.tm_sec = 0;
  for (const char* form : {"%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d",
                           "%H:%M:%S", "%H:%M"}) {
    std::tm time = today;
    const char* end = ::strptime(text.c_str(), form, &time);
    if (end != nullptr && *end == '\0') return time;
  }
  return {};
}

// A log that is read backwards, with the entry that comes next.
struct Source {
  explicit Source(const std::filesystem::path& path) : reader(path), next(reader.Next()) {}
  BackwardReader reader;
  std::optional<LogEntry> next;
};

}  // namespace

bool LogQuery::Wants(const LogEntry& entry) const {
  return entry.time >= since && (!grep || std::regex_search(entry.text, *grep));
}

std::string SinceTime(const std::string& text, std::time_t now) {
  std::tm time{};
  if (const auto ago = Duration(text)) now -= *ago;
  ::localtime_r(&now, &time);
  if (!Duration(text)) {
    const auto point = PointInTime(text, time);
    if (!point) {
      throw Error("\"" + text + "\" is no time", "--since",
                  "such as 45s, 10m, 2h, 3d, 21:03, \"2026-11-24 21:03\" or 2026-11-24");
    }
    time = *point;
  }
  char formatted[32];
  std::strftime(formatted, sizeof formatted, "%Y-%m-%d %H:%M:%S.000", &time);
  return formatted;
}

std::vector<std::filesystem::path> LogsOf(const std::filesystem::path& folder, const LogQuery& query) {
  if (!std::filesystem::is_directory(folder)) throw Error("this run has no logs yet", folder.string());
  std::vector<std::filesystem::path> logs;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".log") continue;
    names.push_back(ProcessOfFileName(entry.path().stem()));
    if (query.process.empty() || query.process == names.back()) logs.push_back(entry.path());
  }
  std::ranges::sort(logs);
  std::ranges::sort(names);
  if (logs.empty() && !query.process.empty()) {
    throw Error("this run has no process \"" + query.process + "\" with a log", folder.string(),
                NearestHint(query.process, names));
  }
  return logs;
}

LogTail NewestEntries(const std::vector<std::filesystem::path>& logs, const LogQuery& query) {
  LogTail tail;
  std::vector<std::unique_ptr<Source>> sources;
  for (const auto& path : logs) {
    const Source& source = *sources.emplace_back(std::make_unique<Source>(path));
    tail.ends.push_back({path, source.reader.inode(), source.reader.end(), source.next ? source.next->time : ""});
  }
  while (!query.count || tail.entries.size() < *query.count) {
    const auto newest = std::ranges::max_element(
        sources, {}, [](const auto& source) { return source->next ? source->next->time : std::string(); });
    const auto any = newest != sources.end() && (*newest)->next
                         ? newest
                         : std::ranges::find_if(sources, [](const auto& source) { return source->next.has_value(); });
    if (any == sources.end() || (*any)->next->time < query.since) break;
    if (query.Wants(*(*any)->next)) tail.entries.push_back(std::move(*(*any)->next));
    (*any)->next = (*any)->reader.Next();
  }
  std::ranges::reverse(tail.entries);
  return tail;
}

}  // namespace sgmd
