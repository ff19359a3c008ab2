// The values of the answer cache: segments that are filled one after the other and dropped as a whole.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest/digest.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
class Status;
}  // namespace rocksdb

namespace sgmd {

/// A segment is a column family of RocksDB, so that dropping it deletes its files and rewrites nothing. Its number says
/// which came first; numbers are never given twice. Get and MayHave may be called by
/// any thread, the rest by one that writes.
class AnswerSegments {
 public:
  enum class Found { kYes, kNo, kDamaged };
  struct Segment {
    std::uint64_t number = 0;
    std::unique_ptr<rocksdb::ColumnFamilyHandle> files;
    std::int64_t entries = 0, bytes = 0;  // put into it; bytes of values, also of those that were removed since
    bool unflushed = false;               // something was put or removed after the last flush
  };

  explicit AnswerSegments(rocksdb::DB& db);
  ~AnswerSegments();

  /// The name of the column family, and the number of one with such a name.
  static std::string NameOf(std::uint64_t number);
  static std::optional<std::uint64_t> NumberIn(std::string_view name);

  /// One that is on disk; they come in ascending order.
  void Add(Segment segment);
  /// A new one is filled from now on.
  rocksdb::Status Create();
  /// The caller leaves at least one.
  rocksdb::Status DropOldest();

  /// Looks at the newest first; those without `key` cost a look at a filter in memory.
  Found Get(const Digest& key, std::string* value) const;
  /// False when no segment has `key`. Looks at memory alone, which may leave it open: then true.
  bool MayHave(const Digest& key) const;
  /// The newest that holds `key`, whole or damaged.
  Segment* Holding(const Digest& key);
  /// Which is filled.
  Segment& last() { return all_.back(); }
  const std::deque<Segment>& all() const { return all_; }
  /// Everything below this number was dropped.
  std::uint64_t oldest() const { return all_.empty() ? 0 : all_.front().number; }

  /// Of all segments.
  std::int64_t entries() const { return entries_; }
  std::int64_t bytes() const { return bytes_; }
  /// A value of `bytes` was put into the last one.
  void CountPut(std::int64_t bytes);
  void CountRemoved(Segment& segment);
  /// What was put and removed, and the default column family, at once: a crash leaves all of it or nothing.
  rocksdb::Status Flush();

 private:
  Found GetFrom(const Segment& segment, const Digest& key, std::string* value) const;

  rocksdb::DB& db_;
  mutable std::shared_mutex mutex_;  // of the list: whoever reads a segment keeps it from being dropped
  std::deque<Segment> all_;
  std::uint64_t next_number_ = 1;
  std::atomic<std::int64_t> entries_ = 0, bytes_ = 0;
};

}  // namespace sgmd
