// The log of one process on disk: it grows to a limit, then makes room; a full disk costs lines, never the run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace sgmd {

/// What is written is appended to `path`, between two lines renamed to <path>.1 (and .1 to .2, ...) once the file would
/// pass `rotate_bytes`. A write that fails (disk full, no file descriptor left) keeps its text, at most `kept_bytes` of
/// it, and the next write tries again; what came when no more could be kept is counted, and "<n> lines were lost"
/// follows what was kept. Never throws.
class LogFile {
 public:
  struct Limits {
    std::uint64_t rotate_bytes = 64U << 20;
    std::size_t kept_bytes = 1U << 20;
  };
  static constexpr int kOlder = 3;  // rotated files beside the newest: <path>.1 to <path>.3

  explicit LogFile(std::filesystem::path path) : LogFile(std::move(path), Limits()) {}
  LogFile(std::filesystem::path path, Limits limits);
  ~LogFile();
  LogFile(const LogFile&) = delete;

  void Write(std::string_view text);

  /// The file of age `older`: 0 is the newest.
  static std::filesystem::path Rotated(const std::filesystem::path& path, int older);

 private:
  void Flush();
  bool WritePending();
  bool Open();
  void Rotate();

  std::filesystem::path path_;
  Limits limits_;
  int fd_ = -1;
  std::uint64_t size_ = 0;  // of the open file
  bool line_open_ = false;  // what was written last does not end in a newline
  std::string pending_;     // not on disk yet
  std::uint64_t lost_ = 0;  // lines that came when nothing more could be kept
};

}  // namespace sgmd
