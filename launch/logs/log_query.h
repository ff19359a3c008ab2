// The newest entries of a run's logs, in the order of time over all its processes.
#pragma once

#include <cstddef>
#include <ctime>
#include <filesystem>
#include <functional>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "launch/logs/log_entry.h"

namespace sgmd {

/// What is asked of logs.
struct LogQuery {
  std::string process;               // its name; empty: all
  std::string since;                 // as SinceTime; empty: from the beginning
  std::optional<std::regex> grep;    // searched for in an entry's text
  std::optional<std::size_t> count;  // how many of the newest entries; nothing: all

  bool Wants(const LogEntry& entry) const;
};

/// The time of "10m", "2h", "45s" or "3d" before `now`, or of "21:03[:11]" today, or of "2026-11-24[ 21:03[:11]]", as
/// LogEntry::time. Throws Error for another form.
std::string SinceTime(const std::string& text, std::time_t now);

/// <folder>/<process>.log of every process that `query` names. Throws Error when there are no logs, or none of its
/// name.
std::vector<std::filesystem::path> LogsOf(const std::filesystem::path& folder, const LogQuery& query);

/// Where a reader that goes on has to begin in the newest file of each log.
struct LogEnd {
  std::filesystem::path path;
  std::uint64_t inode = 0, offset = 0;
  std::string time;  // of the last entry: what follows without a time is of this one
};

struct LogTail {
  std::vector<LogEntry> entries;  // oldest first
  std::vector<LogEnd> ends;
};

LogTail NewestEntries(const std::vector<std::filesystem::path>& logs, const LogQuery& query);

}  // namespace sgmd
