// Answers of teachers on disk, content-addressed: the same inputs give the same bytes, so nothing is computed twice and
// a run can be replayed without a teacher.
#pragma once

#include <filesystem>
#include <memory>

#include "nodes/broker/answer_key.h"
#include "nodes/broker/answer_store.h"

namespace sgmd {

/// RocksDB with blob files and without a write-ahead log; a writer thread persists after the reply. Entries:
///   's' key[16]          -> value                    (answer_value.h)
///   'i' sequence[8, BE]  -> key[16] size[8, LE]      insertion order, for eviction
///   'f' fingerprint text -> ""                       whose answers the cache holds
///   "version"            -> "sgmd-score-cache-1"
class AnswerCache : public AnswerStore {
 public:
  /// Opens or creates. Throws Error when the folder cannot be opened, is open in another process, or is of another
  /// format version. `limit_gib`: of values; above it the oldest entries go first, a tenth of the limit at a time. The
  /// disk holds up to a quarter more, in blob files whose dead values have not been collected.
  AnswerCache(const std::filesystem::path& folder, double limit_gib);
  /// Drains the writer and flushes.
  ~AnswerCache() override;

  /// A corrupt entry is deleted, counted, and reported as absent.
  std::optional<TensorFrame> Lookup(const Digest& key) override;
  /// Queues for the writer; blocks only while its queue is full. A key that is there already is left as it is.
  void Store(const Digest& key, const TensorFrame& answer) override;
  /// A checkpoint waits for it, so that a resumed run finds every earlier answer.
  void Sync() override;
  Stats stats() const override;

  void RecordFingerprint(const ScorerFingerprint& scorer);
  /// Throws Error listing the recorded scorers when `scorer` is not among them.
  void RequireFingerprint(const ScorerFingerprint& scorer) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sgmd
