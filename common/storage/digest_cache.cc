#include "common/storage/digest_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <optional>
#include <sstream>
#include <thread>

#include "common/error/error.h"
#include "common/metrics/progress.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

constexpr char kFirstLine[] = "sgmd digests 1";
constexpr std::uintmax_t kWorthProgress = 1 << 30;
constexpr std::int64_t kMiB = 1 << 20, kSecond = 1'000'000'000, kSettled = 2 * kSecond;
constexpr int kTries = 500;  // for the lock, 10 ms apart

// What a file looks like from outside.
struct Look {
  std::uintmax_t size = 0;
  std::int64_t mtime = 0;  // ns
  std::uintmax_t inode = 0;
  std::string path;  // canonical
  bool operator==(const Look&) const = default;
};

std::optional<Look> LookAt(const fs::path& path) {
  std::error_code failed;
  const fs::path canonical = fs::canonical(path, failed);
  struct stat status {};
  if (failed || ::stat(canonical.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  if (canonical.string().find('\n') != std::string::npos) return {};  // would be two lines
  return Look{static_cast<std::uintmax_t>(status.st_size), status.st_mtim.tv_sec * kSecond + status.st_mtim.tv_nsec,
              status.st_ino, canonical.string()};
}

// Whether another write could leave the mtime as it is.
bool JustWritten(const Look& look) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() - look.mtime < kSettled;
}

struct Entry {
  Digest digest;
  Look look;
};

std::optional<Entry> ParseEntry(const std::string& line) {
  std::istringstream fields(line);
  std::string hex;
  Entry entry;
  if (!(fields >> hex >> entry.look.size >> entry.look.mtime >> entry.look.inode) || fields.get() != ' ') return {};
  std::getline(fields, entry.look.path);
  try {
    entry.digest = Digest::FromHex(hex);
  } catch (const Error&) {
    return {};
  }
  return entry;
}

std::deque<Entry> ReadEntries(const fs::path& file) {
  std::deque<Entry> entries;
  std::string text;
  try {
    if (fs::exists(file)) text = ReadFile(file);
  } catch (const std::exception&) {  // as if it were not there
  }
  std::istringstream lines(text);
  std::string line;
  if (!std::getline(lines, line) || line != kFirstLine) return entries;
  while (std::getline(lines, line)) {
    if (auto entry = ParseEntry(line)) entries.push_back(std::move(*entry));
  }
  return entries;
}

// Held while the file is read, changed and written, so that no process undoes what another has added.
class Lock {
 public:
  explicit Lock(const fs::path& file)
      : fd_(::open((file.string() + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    for (int i = 0; fd_ >= 0 && !held_ && i < kTries; ++i) {
      held_ = ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
      if (!held_) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  ~Lock() {
    if (fd_ >= 0) ::close(fd_);
  }
  Lock(const Lock&) = delete;
  bool held() const { return held_; }

 private:
  int fd_;
  bool held_ = false;
};

void Remember(const fs::path& file, const Entry& added) {
  fs::create_directories(file.parent_path());
  const Lock lock(file);
  if (!lock.held()) return;
  std::deque<Entry> entries = ReadEntries(file);
  std::erase_if(entries, [&](const Entry& e) { return e.look.path == added.look.path; });
  entries.push_back(added);
  while (entries.size() > DigestCache::kMostEntries) entries.pop_front();
  std::string text = StrCat(kFirstLine, "\n");
  for (const auto& [digest, look] : entries) {
    text += StrCat(digest.Hex(), " ", look.size, " ", look.mtime, " ", look.inode, " ", look.path, "\n");
  }
  WriteFileAtomically(file, text);
}

Digest ReadAndDigest(const fs::path& path, std::uintmax_t size) {
  if (size < kWorthProgress) return DigestFile(path);
  ProgressLine line("digest of " + path.filename().string() + ", MiB", static_cast<std::int64_t>(size) / kMiB);
  return DigestFile(path, [&](std::uint64_t done) { line.Update(static_cast<std::int64_t>(done) / kMiB); });
}

}  // namespace

DigestCache DigestCache::OfUser() {
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (cache != nullptr && *cache == '/') return DigestCache(fs::path(cache) / "sgmd/digests");
  if (home != nullptr && *home == '/') return DigestCache(fs::path(home) / ".cache/sgmd/digests");
  return DigestCache({});
}

Digest DigestCache::Of(const fs::path& path) const {
  const std::optional<Look> before = LookAt(path);
  if (!before || before->size <= larger_than_) return DigestFile(path);
  if (!file_.empty()) {
    for (const Entry& entry : ReadEntries(file_)) {
      if (entry.look == *before) return entry.digest;
    }
  }
  const Digest digest = ReadAndDigest(path, before->size);
  if (file_.empty() || JustWritten(*before) || LookAt(path) != before) return digest;
  try {
    Remember(file_, {digest, *before});
  } catch (const std::exception&) {  // a full disk, a folder that may not be written to: it is read again next time
  }
  return digest;
}

}  // namespace sgmd
