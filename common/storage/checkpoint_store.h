// One consistent cut of generator, fake score, optimizers and averages at a step boundary.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest/digest.h"
#include "common/storage/checkpoint_layout.h"

namespace sgmd {

/// The checkpoints of one run (their form: checkpoint_layout.h). Both trained roles write their files into the staging
/// folder; the generator writes the manifest and renames, which is the commit point.
class CheckpointStore {
 public:
  /// `experiment`: ExperimentDigest; checkpoints of another experiment are refused.
  CheckpointStore(std::filesystem::path folder, Digest experiment);

  struct Checkpoint {
    std::int64_t step = 0;  // updates done
    std::filesystem::path folder;
    CheckpointManifest manifest;

    /// The files of one state, as CheckpointManifest::FilesOf, in this checkpoint's folder.
    std::vector<std::filesystem::path> FilesOf(std::string_view role, std::string_view state) const;
  };
  /// The newest checkpoint whose digests all verify: what a start goes on from. Those that do not verify are logged
  /// and passed over, whatever is wrong with them. Reads every file. Throws Error when it is of another experiment, or
  /// of a format that no run can go on from.
  std::optional<Checkpoint> Newest() const;
  /// Whether there is any, whole or not.
  bool Any() const;
  /// Every checkpoint whose digests all verify, oldest first; otherwise as Newest.
  std::vector<Checkpoint> All() const;
  /// The checkpoint of `step`; reads and verifies the files of `role` alone. Throws Error when there is none, when one
  /// of these files is damaged, or as Newest.
  Checkpoint At(std::int64_t step, std::string_view role) const;

  /// Where the files of `step` are written before the commit. Created.
  std::filesystem::path Stage(std::int64_t step) const;
  /// Removes what is staged of `step`.
  void Discard(std::int64_t step) const;
  /// Writes the manifest over `files` (name -> digest, all staged) and commits. Of the checkpoints up to `step` it
  /// keeps the newest `keep` and that of step `pinned`; later ones are what a start found damaged, and are replaced
  /// when the run reaches them.
  void Commit(std::int64_t step, const std::map<std::string, Digest>& files, std::int64_t keep,
              std::int64_t pinned = -1) const;

 private:
  std::optional<Checkpoint> OpenWhole(const std::filesystem::path& folder) const;
  Checkpoint OpenManifest(const std::filesystem::path& folder) const;
  std::filesystem::path folder_;
  Digest experiment_;
};

}  // namespace sgmd
