// Digests of large files, remembered for as long as a file looks the same: every process of a run asks for those of the
// model, which are minutes of reading at 14B.
//
// On disk, one text file: the line "sgmd digests 1", then a line an entry, newest last,
//   <digest, 32 hex digits> <size> <mtime, ns since 1970> <inode> <canonical path>
// A file that does not begin so is not read, and neither is a line of another form. Losing it costs time alone.
#pragma once

#include <cstdint>
#include <filesystem>

#include "common/digest/digest.h"

namespace sgmd {

class DigestCache {
 public:
  static constexpr std::uintmax_t kLarge = 64 << 20;  // bytes; smaller files are read faster than looked up
  static constexpr std::size_t kMostEntries = 1000;   // the oldest go first

  /// `file` need not exist; empty: nothing is remembered.
  explicit DigestCache(std::filesystem::path file, std::uintmax_t larger_than = kLarge)
      : file_(std::move(file)), larger_than_(larger_than) {}
  /// ${XDG_CACHE_HOME:-$HOME/.cache}/sgmd/digests; nothing is remembered where neither is set.
  static DigestCache OfUser();

  /// Equal to DigestFile(path), without reading a file that has the size, mtime and inode of its entry. Shows progress
  /// of what takes long. It does not remember files that have just been written, whose mtime would not tell of a
  /// further write, nor files that change meanwhile. Throws Error as DigestFile does, and never because of the cache.
  Digest Of(const std::filesystem::path& path) const;

 private:
  std::filesystem::path file_;
  std::uintmax_t larger_than_;
};

}  // namespace sgmd
