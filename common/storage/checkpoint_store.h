// One consistent cut of generator, fake score, optimizers and averages at a step boundary.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/digest/digest.h"

namespace sgmd {

/// Folder `checkpoints/step-<8 digits>/` with state files and MANIFEST.json {step, experiment, files: {name: digest}}.
/// Both trained roles write their files into the staging folder; the generator writes the manifest and renames, which
/// is the commit point.
class CheckpointStore {
 public:
  /// `experiment`: ExperimentDigest; checkpoints of another experiment are refused.
  CheckpointStore(std::filesystem::path folder, Digest experiment);

  struct Checkpoint {
    std::int64_t step = 0;  // updates done
    std::filesystem::path folder;
  };
  /// The newest checkpoint whose digests all verify; logs those that do not. Throws Error when it is of another
  /// experiment.
  std::optional<Checkpoint> Newest() const;
  /// Every checkpoint whose digests all verify, oldest first; otherwise as Newest.
  std::vector<Checkpoint> All() const;

  /// Where the files of `step` are written before the commit. Created.
  std::filesystem::path Stage(std::int64_t step) const;
  /// Writes the manifest over `files` (name -> digest, all staged) and commits. Keeps the newest `keep`.
  void Commit(std::int64_t step, const std::map<std::string, Digest>& files, std::int64_t keep) const;

 private:
  std::optional<Checkpoint> Open(const std::filesystem::path& folder) const;
  std::filesystem::path Folder(std::int64_t step) const;
  std::filesystem::path folder_;
  Digest experiment_;
};

}  // namespace sgmd
