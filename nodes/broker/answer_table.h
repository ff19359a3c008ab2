// The database of the answer cache: its form on disk, how it is opened, and what is put in and taken out.
#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/digest/digest.h"
#include "common/error/error.h"
#include "nodes/broker/answer_segments.h"

namespace sgmd {

/// The request that an answer was for.
struct AnswerPlace {
  Digest experiment;            // ExperimentDigest
  std::uint64_t rollbacks = 0;  // of the run so far: after each one the draws are new
  std::uint8_t kind = 0;        // TeacherWork::order
  std::int64_t step = 0;
  std::int32_t index = 0;  // micro-batch
};

/// The disk is full, there are too many open files, and the like: it may work later.
class DiskTrouble : public Error {
 public:
  using Error::Error;
};

/// Files of the database are missing or broken.
class TableDamaged : public Error {
 public:
  using Error::Error;
};

struct SegmentCounts;

/// RocksDB without a write-ahead log: what was not flushed is lost in a crash, and a flush makes all or nothing of it
/// safe. Values lie in segments (answer_segments.h), column families with blob files; the default one holds the rest:
///   in a segment:    's' key[16] -> value            (answer_value.h)
///   by default:      't' experiment[16] step[8, BE] kind[1] index[8, BE] rollbacks[8, BE] -> key[16] segment[8, LE]
///                    'c' segment[8, BE] -> entries[8, LE] bytes[8, LE]     what was put into it
///                    'f' fingerprint text -> ""                            whose answers the cache holds
///                    "version"            -> "sgmd-score-cache-2"
///
/// A segment takes a sixteenth of the limit, or one value where that is more. When the next value would be above the
/// limit, the oldest segments are dropped. So values are never more than the limit (or one value), and the disk holds
/// less than the limit, one segment, 4 MiB, and 66 bytes for every place that was ever recorded: places stay. One whose
/// segment is below the oldest was evicted; any other whose answer is not there was lost.
///
/// Reading is thread-safe; one thread writes. What writes throws DiskTrouble or TableDamaged.
class AnswerTable {
 public:
  enum class OnDamage { kSetAside, kFail };
  using Found = AnswerSegments::Found;
  struct Totals {
    std::int64_t entries = 0, bytes = 0, evicted = 0;
  };
  using PlaceVisitor = std::function<void(const AnswerPlace& place, const Digest& key, bool evicted)>;

  /// Opens or creates; read-only where the file system is. A damaged folder is renamed to <folder>.damaged-<UTC time>
  /// and a new one is made, with a warning, or TableDamaged is thrown. Throws DiskTrouble, or another Error when
  /// another process has it open or it is of another format version. `limit_bytes`: of values.
  static std::shared_ptr<AnswerTable> Open(const std::filesystem::path& folder, std::int64_t limit_bytes,
                                           OnDamage on_damage);
  /// Opens to read alone, also while another process writes: what that one had flushed by now.
  static std::shared_ptr<AnswerTable> OpenToRead(const std::filesystem::path& folder);
  ~AnswerTable();

  bool read_only() const { return read_only_; }
  /// Bytes after which what was put should be flushed.
  std::size_t flush_bytes() const { return flush_bytes_; }
  Totals totals() const { return {segments_->entries(), segments_->bytes(), evicted_}; }

  Found Get(const Digest& key, std::string* value) const;
  /// False when it is clear without the disk that `key` is not there.
  bool MayHave(const Digest& key) const { return segments_->MayHave(key); }
  bool Has(const Digest& key) const;
  std::vector<std::string> Fingerprints() const;
  /// Every place of `experiment` that was recorded, in order of steps, with the key of its answer and whether the
  /// segment that held it was dropped; the answer may have been put again since.
  void VisitPlaces(const Digest& experiment, const PlaceVisitor& visit) const;

  /// A key that is there already is left as it is.
  void Put(const Digest& key, const std::string& value);
  void Remove(const Digest& key);
  void Record(const AnswerPlace& place, const Digest& key);
  void AddFingerprint(const std::string& text);
  /// Makes everything that was put survive a crash.
  void Flush();
  /// After a failure: whether the database writes again.
  bool Resume();

 private:
  AnswerTable(std::filesystem::path folder, std::int64_t limit_bytes);
  rocksdb::Status OpenDatabase(bool read_only);
  SegmentCounts CountsOf(std::uint64_t segment) const;
  void CheckFormat();
  void MakeRoomFor(std::int64_t bytes);
  void RequireRoom() const;
  void Check(const rocksdb::Status& status, const char* action) const;

  std::filesystem::path folder_;
  std::int64_t limit_bytes_, segment_bytes_;
  std::size_t flush_bytes_ = 0;
  bool read_only_ = false;
  std::unique_ptr<rocksdb::DB> db_;
  std::unique_ptr<AnswerSegments> segments_;
  std::optional<Digest> last_put_;  // is in the last segment
  std::atomic<std::int64_t> evicted_ = 0;
};

}  // namespace sgmd
