// Answers of teachers on disk, content-addressed: the same inputs give the same bytes, so nothing is computed twice and
// a run can be replayed without a teacher.
#pragma once

#include <filesystem>

#include "nodes/broker/answer_key.h"
#include "nodes/broker/answer_reader.h"
#include "nodes/broker/answer_store.h"
#include "nodes/broker/answer_writer.h"

namespace sgmd {

/// An AnswerTable that an AnswerReader reads and an AnswerWriter writes, after the reply. The calling thread does not
/// touch it: its locks may be held by what writes. It never ends a training: a damaged table is set aside, one that
/// cannot be written now is written later or lost.
class AnswerCache : public AnswerStore {
 public:
  struct Options {
    double limit_gib = 1.0;  // of values; above it the oldest go first (AnswerTable says what the disk holds)
    bool replay = false;     // a damaged table is an error
    AnswerWriter::Limits writer{};
  };

  /// Opens or creates. Throws Error when another process has it open, when it is of another format version, and in a
  /// replay whenever it cannot be opened.
  AnswerCache(const std::filesystem::path& folder, const Options& options);

  /// A corrupt entry is deleted, counted, and reported as absent. So is one that still waits to be written.
  bool Lookup(std::uint64_t request, const Digest& key) override {
    reader_.Ask(request, key);
    return true;
  }
  std::optional<Found> TakeFound() override;
  int found_event() const override { return reader_.event(); }
  /// Queues for the writer. A key that is there already is left as it is.
  void Store(const Digest& key, const TensorFrame& answer) override;
  void Record(const AnswerPlace& place, const Digest& key) override;
  bool IsBehind() const override { return writer_.IsBehind(); }
  /// A checkpoint waits for it, so that a resumed run finds every earlier answer.
  std::uint64_t RequestSafety() override { return writer_.RequestFlush(); }
  bool IsSafe(std::uint64_t request) const override { return writer_.Flushed(request); }
  /// Waits for both.
  void Sync() { writer_.Sync(); }
  Stats stats() const override;

  void RecordFingerprint(const ScorerFingerprint& scorer);
  /// Throws Error listing the recorded scorers when `scorer` is not among them.
  void RequireFingerprint(const ScorerFingerprint& scorer) const;

 private:
  void Write(AnswerWriter::Job job, std::size_t bytes);

  std::string folder_;
  std::chrono::milliseconds patience_;
  AnswerWriter writer_;
  AnswerReader reader_;  // goes first: it reads what the writer has open
  Stats reads_;
};

}  // namespace sgmd
