// A process' log from its end towards its beginning, through the files that it was rotated into.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launch/logs/log_entry.h"

namespace sgmd {

/// Reads blocks from the end, so that the last entries of a long log cost little. Sees what was there when it was made.
class BackwardReader {
 public:
  /// `path`: the newest file, which must exist. Throws Error when it cannot be opened.
  explicit BackwardReader(const std::filesystem::path& path);
  ~BackwardReader();
  BackwardReader(const BackwardReader&) = delete;

  /// The next entry, newest first; nothing at the beginning.
  std::optional<LogEntry> Next();

  /// Where the newest file ended after its last whole line, and which file that was: a follower goes on there.
  std::uint64_t end() const { return end_; }
  std::uint64_t inode() const { return inode_; }

 private:
  struct File {
    int fd;
    std::uint64_t left;  // bytes before what was read
  };
  bool ReadBlock();
  std::optional<std::string> NextLine();

  std::string process_;
  std::vector<File> files_;  // newest first
  std::size_t file_ = 0;     // that is read
  std::string block_;        // read and not yet handed out; its end is the next line
  std::uint64_t end_ = 0, inode_ = 0;
};

}  // namespace sgmd
