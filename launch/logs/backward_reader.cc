#include "launch/logs/backward_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "common/config/run_folder.h"
#include "common/error/error.h"
#include "launch/run/log_file.h"

namespace sgmd {
namespace {

constexpr std::uint64_t kBlock = 1U << 16;

}  // namespace

// Newest first: a file that is rotated meanwhile is met twice, which its inode tells, and never missed.
BackwardReader::BackwardReader(const std::filesystem::path& path) : process_(ProcessOfFileName(path.stem())) {
  std::set<std::uint64_t> seen;
  for (int older = 0; older <= LogFile::kOlder; ++older) {
    const int fd = ::open(LogFile::Rotated(path, older).c_str(), O_RDONLY | O_CLOEXEC);
    struct stat file {};
    if (fd < 0 && older == 0) ThrowErrno("cannot open", path.string());
    if (fd < 0) break;
    if (::fstat(fd, &file) != 0 || !seen.insert(file.st_ino).second) {
      ::close(fd);
      continue;
    }
    files_.push_back({fd, static_cast<std::uint64_t>(file.st_size)});
    if (older == 0) inode_ = file.st_ino;
  }
  end_ = files_.front().left;
  while (ReadBlock() && block_.find('\n') == std::string::npos && file_ == 0) continue;
  const std::size_t newline = block_.rfind('\n');
  end_ -= newline == std::string::npos ? std::min<std::uint64_t>(end_, block_.size()) : block_.size() - newline - 1;
}

BackwardReader::~BackwardReader() {
  for (const File& file : files_) ::close(file.fd);
}

bool BackwardReader::ReadBlock() {
  while (file_ < files_.size() && files_[file_].left == 0) ++file_;
  if (file_ == files_.size()) return false;
  File& file = files_[file_];
  std::string bytes(std::min(kBlock, file.left), '\0');
  file.left -= bytes.size();
  const ssize_t size = ::pread(file.fd, bytes.data(), bytes.size(), static_cast<off_t>(file.left));
  if (size != static_cast<ssize_t>(bytes.size())) ThrowErrno("cannot read", process_ + ".log");
  block_.insert(0, bytes);
  return true;
}

std::optional<std::string> BackwardReader::NextLine() {
  if (block_.empty() && !ReadBlock()) return {};
  if (block_.back() == '\n') block_.pop_back();
  std::size_t newline;
  while ((newline = block_.rfind('\n')) == std::string::npos && ReadBlock()) continue;
  const std::size_t begin = newline == std::string::npos ? 0 : newline + 1;
  std::string line = block_.substr(begin);
  block_.erase(begin);
  return line;
}

std::optional<LogEntry> BackwardReader::Next() {
  std::vector<std::string> lines;
  std::string time;
  while (time.empty()) {
    const auto line = NextLine();
    if (!line) break;
    time = TimeOf(*line);
    lines.push_back(*line);
  }
  if (lines.empty()) return {};
  LogEntry entry{process_, time, lines.back()};
  for (auto line = std::next(lines.rbegin()); line != lines.rend(); ++line) entry.text += "\n" + *line;
  return entry;
}

}  // namespace sgmd
