// Which parts of a checkpoint are staged, and when it may be committed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "common/messages/life.h"
#include "common/storage/checkpoint_store.h"

namespace sgmd {

/// A checkpoint is committed when the generator's own files are staged and so are all that the fake score announced.
class CheckpointCommit {
 public:
  /// `keep`: how many checkpoints stay. `committed`: step of the newest one, -1 when there is none.
  CheckpointCommit(CheckpointStore store, std::int64_t keep, std::int64_t committed)
      : store_(std::move(store)), keep_(keep), committed_(committed) {}

  /// Where the files of `step` are staged.
  std::filesystem::path Folder(std::int64_t step) const { return store_.Stage(step); }
  /// The generator's files of `step` are staged, name -> digest.
  void OnOwnFiles(std::int64_t step, std::map<std::string, Digest> files);
  /// One of the fake score's is; the same one may come again.
  void OnPart(const message::CheckpointPart& part);

  /// Step of the newest commit, -1 when there is none.
  std::int64_t committed() const { return committed_; }

 private:
  struct Staged {
    std::optional<std::map<std::string, Digest>> own;
    std::map<std::string, Digest> fake_score;
    std::optional<std::int64_t> expected;  // how many files of the fake score
  };
  void CommitWhenAllIsThere(std::int64_t step);

  CheckpointStore store_;
  std::int64_t keep_;
  std::map<std::int64_t, Staged> staged_;  // by step
  std::int64_t committed_;
};

}  // namespace sgmd
