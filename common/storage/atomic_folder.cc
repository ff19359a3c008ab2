#include "common/storage/atomic_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "common/error/error.h"
#include "common/metrics/work_count.h"

namespace sgmd {
namespace {

std::filesystem::path ParentOf(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

// Owns a descriptor so that no error path leaks it.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

constexpr std::size_t kPart = 16 << 20;  // written at once, so that progress is seen

void WriteAll(int fd, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), std::min(bytes.size(), kPart));
    CountWork();
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) ThrowErrno("cannot write", path.string());
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

std::filesystem::path StagingFolder(const std::filesystem::path& final_path) {
  return ParentOf(final_path) / (".tmp-" + final_path.filename().string());
}

void SyncPath(const std::filesystem::path& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) ThrowErrno("cannot open to sync", path.string());
  if (::fsync(file.fd) != 0) ThrowErrno("cannot sync", path.string());
}

void WriteFileAtomically(const std::filesystem::path& path, std::string_view bytes) {
  WriteFileAtomically(path, std::span(&bytes, 1));
}

void WriteFileAtomically(const std::filesystem::path& path, std::span<const std::string_view> pieces) {
  AtomicFile file(path);
  for (const std::string_view piece : pieces) file.Write(piece);
  file.Commit();
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)), staged_(StagingFolder(path_)) {
  fd_ = ::open(staged_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) ThrowErrno("cannot create", staged_.string());
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;  // committed
  ::close(fd_);
  std::error_code ignored;
  std::filesystem::remove(staged_, ignored);
}

void AtomicFile::Write(std::string_view bytes) { WriteAll(fd_, bytes, staged_); }

void AtomicFile::Commit() {
  if (::fsync(fd_) != 0) ThrowErrno("cannot sync", staged_.string());
  if (::rename(staged_.c_str(), path_.c_str()) != 0) ThrowErrno("cannot rename into place", path_.string());
  ::close(fd_);
  fd_ = -1;
  SyncPath(ParentOf(path_));
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) ThrowErrno("cannot open", path.string());
  std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) ThrowErrno("cannot read", path.string());
  return bytes;
}

void CommitFolder(const std::filesystem::path& final_path) {
  const std::filesystem::path staged = StagingFolder(final_path);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(staged)) {
    if (entry.is_regular_file()) SyncPath(entry.path());
  }
  SyncPath(staged);
  std::filesystem::remove_all(final_path);
  if (::rename(staged.c_str(), final_path.c_str()) != 0) ThrowErrno("cannot rename into place", final_path.string());
  SyncPath(ParentOf(final_path));
}

}  // namespace sgmd
