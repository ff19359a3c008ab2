// Which parts of a checkpoint are staged, and when it may be committed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "common/messages/life.h"
#include "common/storage/checkpoint_store.h"

namespace sgmd {

/// What becomes of the checkpoint of a step, when both trained roles have spoken of it:
///
///   generator                 fake score                        then
///   OnOwnFiles                OnPart of every file announced    committed
///   Decline                   either                            declined: what is staged is removed
///   either                    OnPart that is not healthy        declined
///
/// Nothing is removed before both have spoken, because the other one may be writing. What comes of a step that is
/// committed or declined changes nothing.
class CheckpointCommit {
 public:
  /// `keep`: how many checkpoints stay. `resumed_from`: the step that this start goes on from, -1 at the beginning; its
  /// checkpoint stays until two newer ones are committed.
  CheckpointCommit(CheckpointStore store, std::int64_t keep, std::int64_t resumed_from)
      : store_(std::move(store)), keep_(keep), resumed_from_(resumed_from), committed_(resumed_from) {}

  /// Where the files of `step` are staged.
  std::filesystem::path Folder(std::int64_t step) const { return store_.Stage(step); }
  /// The generator's files of `step` are staged, name -> digest.
  void OnOwnFiles(std::int64_t step, std::map<std::string, Digest> files);
  /// The generator stages nothing of `step`.
  void Decline(std::int64_t step);
  /// One of the fake score's is staged, or it declines; the same one may come again.
  void OnPart(const message::CheckpointPart& part);

  /// Step of the newest commit, -1 when there is none.
  std::int64_t committed() const { return committed_; }
  /// Whether there is a step of which only one of the two has spoken so far.
  bool waiting() const { return !staged_.empty(); }
  /// Whether the fake score has declined `step`, so that nothing need be staged of it.
  bool DeclinedByOther(std::int64_t step) const;

 private:
  // Whether `step` is committed or declined.
  bool Settled(std::int64_t step) const { return step <= committed_ || declined_.contains(step); }

  struct Staged {
    std::optional<std::map<std::string, Digest>> own;
    std::map<std::string, Digest> fake_score;
    std::optional<std::int64_t> expected;  // how many files of the fake score
    bool own_declined = false, fake_score_declined = false;
  };
  void SettleWhenBothSpoke(std::int64_t step);
  void Commit(std::int64_t step, const Staged& staged);

  CheckpointStore store_;
  std::int64_t keep_, resumed_from_;
  std::map<std::int64_t, Staged> staged_;  // by step
  std::set<std::int64_t> declined_;
  std::int64_t committed_;
  int commits_ = 0;  // of this start
};

}  // namespace sgmd
