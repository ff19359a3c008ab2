// A run's logs as they grow.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "launch/logs/log_query.h"

namespace sgmd {

/// Goes on behind what NewestEntries has read; logs of processes that start later, and files that take a rotated one's
/// place, are read from their beginning.
class LogFollower {
 public:
  LogFollower(std::filesystem::path folder, LogQuery query, const std::vector<LogEnd>& ends);
  ~LogFollower();
  LogFollower(const LogFollower&) = delete;

  /// What was added since the last call, in the order of time. Lines that are not whole yet wait for their end.
  std::vector<LogEntry> Poll();

 private:
  struct Growing {
    int fd = -1;
    std::uint64_t inode = 0;
    std::string time, partial;  // of the last entry; the beginning of a line
  };
  void ReadOn(const std::filesystem::path& path, Growing& log, std::vector<LogEntry>& entries);
  void TakeLines(const std::string& process, Growing& log, std::vector<LogEntry>& entries);
  void Reopen(const std::filesystem::path& path, Growing& log);

  std::filesystem::path folder_;
  LogQuery query_;
  std::map<std::filesystem::path, Growing> logs_;
};

}  // namespace sgmd
