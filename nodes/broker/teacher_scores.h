// Scores and anchors that need not be computed again: what identifies one, and the interface of what keeps them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/digest/digest.h"
#include "common/transport/envelope.h"

namespace sgmd {

/// What besides the sample decides a score.
struct ScorerFingerprint {
  Digest teacher;                   // ModelDigest
  double guidance = 1.0;            // w in u + w (c - u)
  std::string compute = "float32";  // [precision] compute

  /// "teacher <digest>, guidance <w>", and the precision where it is not float32.
  std::string Text() const;
};

/// XXH3-128 over length-prefixed (fingerprint, then dtype, shape and bytes of sigma, prompts and x_s).
Digest ScoreKey(const ScorerFingerprint& scorer, const Envelope& sample);

/// The trajectory that ends in an anchor (pipeline/objectives/diversity.h): `steps` of a grid of `grid` steps with
/// `shift`.
struct AnchorSettings {
  std::int64_t steps = 0, grid = 0;
  double shift = 0;
};

/// XXH3-128 over length-prefixed ("anchor", fingerprint, settings, then dtype, shape and bytes of noise and prompts):
/// no score and no anchor of another trajectory has it.
Digest AnchorKey(const ScorerFingerprint& scorer, const AnchorSettings& settings, const Envelope& request);

/// Teacher scores by content key, and anchors, which are tensors like them. All calls come from one thread.
class TeacherScores {
 public:
  struct Stats {
    std::int64_t hits = 0, misses = 0, corrupt = 0, evicted = 0;
    std::int64_t entries = 0, bytes = 0;    // on disk; bytes of values
    double hit_seconds = 0, hit_bytes = 0;  // spent reading and verifying hits

    double HitMegabytesPerSecond() const { return hit_seconds > 0 ? hit_bytes / hit_seconds / 1e6 : 0; }
  };

  virtual ~TeacherScores() = default;
  /// What is stored for `key`, named "velocity" whatever it is, its bytes owned by the frame.
  virtual std::optional<TensorFrame> Lookup(const Digest& key) = 0;
  /// Keeps `velocity` for later. Losing it costs a recomputation, so a store that cannot write says so in the log and
  /// does not fail the run.
  virtual void Store(const Digest& key, const TensorFrame& velocity) = 0;
  /// Makes everything stored so far survive a crash.
  virtual void Sync() = 0;
  virtual Stats stats() const = 0;
};

/// For runs with the cache switched off: keeps nothing.
class NoScores : public TeacherScores {
 public:
  std::optional<TensorFrame> Lookup(const Digest&) override {
    ++stats_.misses;
    return {};
  }
  void Store(const Digest&, const TensorFrame&) override {}
  void Sync() override {}
  Stats stats() const override { return stats_; }

 private:
  Stats stats_;
};

}  // namespace sgmd
