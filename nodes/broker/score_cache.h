// Teacher scores on disk, content-addressed: the same inputs give the same bytes, so a score is never computed twice and a
// run can be replayed without a teacher.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "common/digest/digest.h"
#include "common/transport/envelope.h"

namespace sgmd {

/// What besides the sample decides a score.
struct ScorerFingerprint {
  Digest teacher;         // ModelDigest
  double guidance = 1.0;  // w in u + w (c - u)

  /// "teacher <digest>, guidance <w>".
  std::string Text() const;
};

/// XXH3-128 over length-prefixed (fingerprint, dtype, shape, sigma bytes, prompt bytes, x_s bytes).
Digest ScoreKey(const ScorerFingerprint& scorer, const Envelope& sample);

/// RocksDB with blob files and without a write-ahead log; a writer thread persists after the reply. Entries:
///   's' key[16]          -> value          (see score_cache.cc for the value's grammar)
///   'i' sequence[8, BE]  -> key[16] size[8, LE]      insertion order, for eviction
///   'f' fingerprint text -> ""                       which scorers the cache holds
/// All calls come from one thread.
class ScoreCache {
 public:
  struct Stats {
    std::int64_t hits = 0, misses = 0, corrupt = 0, evicted = 0;
    std::int64_t entries = 0, bytes = 0;        // on disk and queued; bytes of values
    double hit_seconds = 0, hit_bytes = 0;      // spent reading and verifying hits
  };

  /// Opens or creates. Throws Error when the folder cannot be opened or is of another format version.
  ScoreCache(const std::filesystem::path& folder, double limit_gib);
  /// Drains the writer and flushes.
  ~ScoreCache();

  /// The velocity stored for `key`. A corrupt entry is deleted, counted, and reported as absent.
  std::optional<TensorFrame> Lookup(const Digest& key);

  /// Queues `velocity` for writing; blocks only while the queue is full. Above the limit the oldest entries go first.
  void Store(const Digest& key, const TensorFrame& velocity);

  /// Makes everything stored so far survive a crash. A checkpoint waits for it, so a resumed run replays completely.
  void Sync();

  void RecordFingerprint(const ScorerFingerprint& scorer);
  /// Throws Error listing the recorded scorers when `scorer` is not among them.
  void RequireFingerprint(const ScorerFingerprint& scorer) const;

  Stats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sgmd
