#include "nodes/generator/checkpoint_commit.h"

#include <algorithm>

#include "common/log/log.h"

namespace sgmd {

void CheckpointCommit::OnOwnFiles(std::int64_t step, std::map<std::string, Digest> files) {
  if (Settled(step)) return;
  staged_[step].own = std::move(files);
  SettleWhenBothSpoke(step);
}

void CheckpointCommit::Decline(std::int64_t step) {
  if (Settled(step)) return;
  staged_[step].own_declined = true;
  SettleWhenBothSpoke(step);
}

void CheckpointCommit::OnPart(const message::CheckpointPart& part) {
  if (Settled(part.step)) return;
  Staged& staged = staged_[part.step];
  if (part.healthy) {
    staged.fake_score[part.file] = part.digest;
    staged.expected = part.files;
  } else {
    staged.fake_score_declined = true;
  }
  SettleWhenBothSpoke(part.step);
}

bool CheckpointCommit::DeclinedByOther(std::int64_t step) const {
  const auto it = staged_.find(step);
  return it != staged_.end() && it->second.fake_score_declined;
}

void CheckpointCommit::SettleWhenBothSpoke(std::int64_t step) {
  const Staged& staged = staged_.at(step);
  const bool all_parts = staged.expected && static_cast<std::int64_t>(staged.fake_score.size()) >= *staged.expected;
  if (!staged.own && !staged.own_declined) return;
  if (!all_parts && !staged.fake_score_declined) return;
  if (staged.own_declined || staged.fake_score_declined) {
    store_.Discard(step);
    declined_.insert(step);
    LogWarning("no checkpoint at step ", step, ": the last update of the ",
               staged.fake_score_declined ? "fake score" : "generator", " was skipped; the last good checkpoint is ",
               committed_ > 0 ? StrCat("at step ", committed_) : "the beginning");
  } else {
    Commit(step, staged);
  }
  staged_.erase(step);
}

void CheckpointCommit::Commit(std::int64_t step, const Staged& staged) {
  std::map<std::string, Digest> files = *staged.own;
  files.insert(staged.fake_score.begin(), staged.fake_score.end());
  ++commits_;
  store_.Commit(step, files, keep_, commits_ < 2 ? resumed_from_ : -1);
  committed_ = std::max(committed_, step);
  LogInfo("checkpoint at step ", step);
}

}  // namespace sgmd
