#include "nodes/generator/checkpoint_commit.h"

#include <algorithm>

#include "common/log/log.h"

namespace sgmd {

void CheckpointCommit::OnOwnFiles(std::int64_t step, std::map<std::string, Digest> files) {
  staged_[step].own = std::move(files);
  CommitWhenAllIsThere(step);
}

void CheckpointCommit::OnPart(const message::CheckpointPart& part) {
  if (part.step <= committed_) return;
  Staged& staged = staged_[part.step];
  staged.fake_score[part.file] = part.digest;
  staged.expected = part.files;
  CommitWhenAllIsThere(part.step);
}

void CheckpointCommit::CommitWhenAllIsThere(std::int64_t step) {
  const Staged& staged = staged_.at(step);
  if (!staged.own || !staged.expected) return;
  if (static_cast<std::int64_t>(staged.fake_score.size()) < *staged.expected) return;
  std::map<std::string, Digest> files = *staged.own;
  files.insert(staged.fake_score.begin(), staged.fake_score.end());
  store_.Commit(step, files, keep_);
  committed_ = std::max(committed_, step);
  staged_.erase(step);
  LogInfo("checkpoint at step ", step);
}

}  // namespace sgmd
