// Files and folders that exist whole or not at all.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace sgmd {

/// Writes a file through `.tmp-<name>`, fsync, rename, fsync of the parent. Throws Error on failure.
void WriteFileAtomically(const std::filesystem::path& path, std::string_view bytes);
/// The same for a file in pieces, written one behind the other.
void WriteFileAtomically(const std::filesystem::path& path, std::span<const std::string_view> pieces);

/// The same, written bit by bit. Without Commit() nothing is left of it.
class AtomicFile {
 public:
  /// Throws Error if `.tmp-<name>` cannot be created.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void Write(std::string_view bytes);
  /// fsync, rename, fsync of the parent. Once, at the end.
  void Commit();

 private:
  std::filesystem::path path_, staged_;
  int fd_ = -1;
};

/// Reads a whole file. Throws Error if it cannot be read.
std::string ReadFile(const std::filesystem::path& path);

/// fsync of a file or folder. Throws Error on failure.
void SyncPath(const std::filesystem::path& path);

/// The temporary sibling that a folder is built in: parent/.tmp-<name>. Several processes may build it together.
std::filesystem::path StagingFolder(const std::filesystem::path& final_path);

/// Commits a staged folder: fsyncs every file in it and the folder, renames it to `final_path` (replacing what an
/// earlier commit left there), fsyncs the parent. The rename is the commit point. Throws Error on failure.
void CommitFolder(const std::filesystem::path& final_path);

}  // namespace sgmd
