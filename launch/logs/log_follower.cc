#include "launch/logs/log_follower.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "common/error/error.h"

namespace sgmd {

LogFollower::LogFollower(std::filesystem::path folder, LogQuery query, const std::vector<LogEnd>& ends)
    : folder_(std::move(folder)), query_(std::move(query)) {
  for (const LogEnd& end : ends) {
    Growing& log = logs_[end.path];
    log.time = end.time;
    Reopen(end.path, log);
    if (log.inode == end.inode) ::lseek(log.fd, static_cast<off_t>(end.offset), SEEK_SET);
  }
}

LogFollower::~LogFollower() {
  for (const auto& [path, log] : logs_) ::close(log.fd);
}

void LogFollower::Reopen(const std::filesystem::path& path, Growing& log) {
  if (log.fd >= 0) ::close(log.fd);
  struct stat file {};
  log.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  log.inode = log.fd >= 0 && ::fstat(log.fd, &file) == 0 ? file.st_ino : 0;
}

void LogFollower::TakeLines(const std::string& process, Growing& log, std::vector<LogEntry>& entries) {
  std::size_t begin = 0;
  for (std::size_t end; (end = log.partial.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = log.partial.substr(begin, end - begin);
    const std::string time(TimeOf(line));
    const bool of_last = time.empty() && !entries.empty() && entries.back().process == process;
    if (of_last) {
      entries.back().text += "\n" + line;
    } else {
      if (!time.empty()) log.time = time;
      entries.push_back({process, log.time, line});
    }
  }
  log.partial.erase(0, begin);
}

void LogFollower::ReadOn(const std::filesystem::path& path, Growing& log, std::vector<LogEntry>& entries) {
  std::string block(65536, '\0');
  for (ssize_t size; log.fd >= 0 && (size = ::read(log.fd, block.data(), block.size())) > 0;) {
    log.partial.append(block, 0, static_cast<std::size_t>(size));
    TakeLines(path.stem(), log, entries);
  }
}

std::vector<LogEntry> LogFollower::Poll() {
  std::vector<LogEntry> entries;
  for (const auto& path : LogsOf(folder_, query_)) {
    Growing& log = logs_[path];
    struct stat newest {};
    const bool replaced = ::stat(path.c_str(), &newest) == 0 && newest.st_ino != log.inode;
    ReadOn(path, log, entries);  // also the rest of a file that was rotated away
    if (!replaced) continue;
    Reopen(path, log);
    ReadOn(path, log, entries);
  }
  std::erase_if(entries, [&](const LogEntry& entry) { return !query_.Wants(entry); });
  std::ranges::stable_sort(entries, {}, &LogEntry::time);
  return entries;
}

}  // namespace sgmd
