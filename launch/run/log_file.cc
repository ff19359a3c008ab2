#include "launch/run/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "common/error/error.h"

namespace sgmd {

LogFile::LogFile(std::filesystem::path path, Limits limits) : path_(std::move(path)), limits_(limits) { Open(); }

LogFile::~LogFile() {
  Flush();
  if (fd_ >= 0) ::close(fd_);
}

std::filesystem::path LogFile::Rotated(const std::filesystem::path& path, int older) {
  return older == 0 ? path : std::filesystem::path(StrCat(path.string(), ".", older));
}

bool LogFile::Open() {
  if (fd_ >= 0) return true;
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  struct stat file {};
  size_ = fd_ >= 0 && ::fstat(fd_, &file) == 0 ? static_cast<std::uint64_t>(file.st_size) : 0;
  return fd_ >= 0;
}

void LogFile::Rotate() {
  std::error_code failed;  // a file that cannot be renamed is written on
  for (int older = kOlder; older > 0; --older) {
    std::filesystem::rename(Rotated(path_, older - 1), Rotated(path_, older), failed);
  }
  if (failed) return;
  ::close(fd_);
  fd_ = -1;
}

bool LogFile::WritePending() {
  while (!pending_.empty()) {
    if (Open() && !line_open_ && size_ > 0 && size_ + pending_.size() > limits_.rotate_bytes) Rotate();
    if (!Open()) return false;
    const ssize_t written = ::write(fd_, pending_.data(), pending_.size());
    if (written <= 0) return false;
    size_ += static_cast<std::uint64_t>(written);
    line_open_ = pending_[static_cast<std::size_t>(written) - 1] != '\n';
    pending_.erase(0, static_cast<std::size_t>(written));
  }
  return true;
}

void LogFile::Flush() {
  if (!WritePending() || lost_ == 0) return;
  pending_ = StrCat(line_open_ ? "\n" : "", lost_, lost_ == 1 ? " line was lost\n" : " lines were lost\n");
  lost_ = 0;
  WritePending();
}

void LogFile::Write(std::string_view text) {
  Flush();
  if (!pending_.empty() && pending_.size() + text.size() > limits_.kept_bytes) {
    lost_ += static_cast<std::uint64_t>(std::ranges::count(text, '\n'));
    return;
  }
  pending_ += text;
  Flush();
}

}  // namespace sgmd
