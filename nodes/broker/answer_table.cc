#include "nodes/broker/answer_table.h"

#include <rocksdb/db.h>

#include <algorithm>

#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "nodes/broker/answer_table_keys.h"

namespace sgmd {
namespace {

constexpr std::uintmax_t kRoomBytes = 8 << 20;  // that a flush leaves to others
constexpr std::uint64_t kNoSegment = ~std::uint64_t{0};

const rocksdb::WriteOptions kNoLog = [] {
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  return options;
}();

template <typename Struct>
rocksdb::Slice SliceOf(const Struct& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// What the system says where a test makes it fail.
rocksdb::Status Injected() { return rocksdb::Status::IOError(std::strerror(errno)); }

}  // namespace

AnswerTable::Found AnswerTable::Get(const Digest& key, std::string* value) const {
  if (failpoint::Fails("cache.get")) return Found::kDamaged;
  return segments_->Get(key, value);
}

bool AnswerTable::Has(const Digest& key) const {
  std::string ignored;
  return Get(key, &ignored) == Found::kYes;
}

std::vector<std::string> AnswerTable::Fingerprints() const {
  std::vector<std::string> texts;
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
  for (it->Seek("f"); it->Valid() && it->key().starts_with("f"); it->Next()) {
    texts.push_back(it->key().ToString().substr(1));
  }
  return texts;
}

void AnswerTable::VisitPlaces(const Digest& experiment, const PlaceVisitor& visit) const {
  const std::string prefix = DigestKey('t', experiment);
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
  for (it->Seek(prefix); it->Valid() && it->key().starts_with(prefix); it->Next()) {
    PlaceEntry entry;
    if (it->key().size() != kPlaceKeyBytes || it->value().size() != sizeof entry) continue;
    std::memcpy(&entry, it->value().data(), sizeof entry);
    visit(PlaceIn({it->key().data(), it->key().size()}, experiment), entry.key, entry.segment < segments_->oldest());
  }
}

void AnswerTable::Put(const Digest& key, const std::string& value) {
  if (segments_->Holding(key) != nullptr) return;
  const auto bytes = static_cast<std::int64_t>(value.size());
  MakeRoomFor(bytes);
  const AnswerSegments::Segment& segment = segments_->last();
  rocksdb::WriteBatch batch;
  batch.Put(segment.files.get(), DigestKey('s', key), value);
  batch.Put(CountsKey(segment.number), SliceOf(SegmentCounts{segment.entries + 1, segment.bytes + bytes}));
  Check(failpoint::Fails("cache.put") ? Injected() : db_->Write(kNoLog, &batch), "write");
  segments_->CountPut(bytes);
  last_put_ = key;
}

void AnswerTable::MakeRoomFor(std::int64_t bytes) {
  if (segments_->last().bytes > 0 && segments_->last().bytes + bytes > segment_bytes_) {
    Check(segments_->Create(), "begin a segment");
    last_put_.reset();
  }
  while (segments_->all().size() > 1 && segments_->bytes() + bytes > limit_bytes_) {
    const AnswerSegments::Segment& oldest = segments_->all().front();
    const std::uint64_t number = oldest.number;
    const std::int64_t entries = oldest.entries, kib = oldest.bytes >> 10;
    Check(segments_->DropOldest(), "drop a segment");
    Check(db_->Delete(kNoLog, CountsKey(number)), "write");
    evicted_ += entries;
    LogInfo("score cache: evicted the ", entries, " oldest entries, ", kib, " KiB");
  }
}

void AnswerTable::Remove(const Digest& key) {
  while (AnswerSegments::Segment* segment = segments_->Holding(key)) {
    rocksdb::WriteBatch batch;
    batch.Delete(segment->files.get(), DigestKey('s', key));
    batch.Put(CountsKey(segment->number), SliceOf(SegmentCounts{segment->entries - 1, segment->bytes}));
    Check(db_->Write(kNoLog, &batch), "remove");
    segments_->CountRemoved(*segment);
  }
}

void AnswerTable::Record(const AnswerPlace& place, const Digest& key) {
  const AnswerSegments::Segment* segment = key == last_put_ ? &segments_->last() : segments_->Holding(key);
  const PlaceEntry entry{key, segment != nullptr ? segment->number : kNoSegment};
  Check(db_->Put(kNoLog, PlaceKey(place), SliceOf(entry)), "write");
}

void AnswerTable::AddFingerprint(const std::string& text) { Check(db_->Put(kNoLog, "f" + text, ""), "write"); }

void AnswerTable::Flush() {
  RequireRoom();
  Check(failpoint::Fails("cache.flush") ? Injected() : segments_->Flush(), "flush");
}

// Asked before the disk is full: a RocksDB that was built with its assertions ends the process when a write to a blob
// file fails.
void AnswerTable::RequireRoom() const {
  std::error_code failure;
  const std::uintmax_t room = std::filesystem::space(folder_, failure).available;
  if (failure || room >= 2 * flush_bytes_ + kRoomBytes) return;
  throw DiskTrouble(StrCat("score cache: the disk has only ", room >> 20, " MiB left"), folder_.string(),
                    "make room on it: answers are stored again then");
}

bool AnswerTable::Resume() { return db_->Resume().ok(); }

void AnswerTable::Check(const rocksdb::Status& status, const char* action) const {
  if (status.ok()) return;
  const std::string what = StrCat("score cache: cannot ", action, ": ", status.ToString());
  if (status.IsCorruption()) throw TableDamaged(what, folder_.string());
  throw DiskTrouble(what, folder_.string(), "is the disk full?");
}

}  // namespace sgmd
