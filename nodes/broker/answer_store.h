// The interface of what keeps answers of teachers, so that they need not be computed again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/digest/digest.h"
#include "common/transport/envelope.h"
#include "nodes/broker/answer_table.h"

namespace sgmd {

/// Scores and anchors by content key (answer_key.h). All calls come from one thread, which none of them keeps waiting
/// for something to be read or written.
class AnswerStore {
 public:
  struct Stats {
    std::int64_t hits = 0, misses = 0, corrupt = 0, evicted = 0;
    std::int64_t entries = 0, bytes = 0;    // on disk; bytes of values
    double hit_seconds = 0, hit_bytes = 0;  // spent reading and verifying hits, beside the caller
    std::string problem;                    // why nothing is stored now; empty when all is well
    std::int64_t waiting_bytes = 0;         // of answers that are not stored yet
    std::int64_t lost = 0;                  // answers that never will be

    double HitMegabytesPerSecond() const { return hit_seconds > 0 ? hit_bytes / hit_seconds / 1e6 : 0; }
  };

  struct Found {
    std::uint64_t request = 0;
    std::optional<TensorFrame> answer;  // without a name, its bytes owned by the frame; nothing: none is stored
  };

  virtual ~AnswerStore() = default;
  /// Looks for what is stored for `key`: TakeFound says later, under `request`, what it found. False, and TakeFound
  /// says nothing, where it is clear at once that nothing is stored.
  virtual bool Lookup(std::uint64_t request, const Digest& key) = 0;
  /// Of each Lookup once; nothing while none has ended since.
  virtual std::optional<Found> TakeFound() = 0;
  /// A file descriptor that can be read from, as poll sees it, while TakeFound has something; -1: it never has.
  virtual int found_event() const = 0;
  /// Keeps `answer` for later. Losing it costs a recomputation, so a store that cannot write says so in the log and in
  /// stats(), and does not fail the run.
  virtual void Store(const Digest& key, const TensorFrame& answer) = 0;
  /// Keeps that the request at `place` is answered by `key`: what is needed to tell whether a run can be replayed.
  virtual void Record(const AnswerPlace& place, const Digest& key) = 0;
  /// Whether so much waits to be stored that nothing more should be asked of teachers for now.
  virtual bool IsBehind() const = 0;
  /// Asks for everything stored so far to survive a crash. Returns what IsSafe is asked with.
  virtual std::uint64_t RequestSafety() = 0;
  /// Whether that is so, or never will be.
  virtual bool IsSafe(std::uint64_t request) const = 0;
  virtual Stats stats() const = 0;
};

/// For runs with the cache switched off: keeps nothing.
class NoAnswers : public AnswerStore {
 public:
  bool Lookup(std::uint64_t, const Digest&) override {
    ++stats_.misses;
    return false;
  }
  std::optional<Found> TakeFound() override { return {}; }
  int found_event() const override { return -1; }
  void Store(const Digest&, const TensorFrame&) override {}
  void Record(const AnswerPlace&, const Digest&) override {}
  bool IsBehind() const override { return false; }
  std::uint64_t RequestSafety() override { return 0; }
  bool IsSafe(std::uint64_t) const override { return true; }
  Stats stats() const override { return stats_; }

 private:
  Stats stats_;
};

}  // namespace sgmd
