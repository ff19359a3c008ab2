#include "nodes/broker/answer_table.h"

#include <rocksdb/db.h>

#include <algorithm>

#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "nodes/broker/answer_table_keys.h"

namespace sgmd {
namespace {

constexpr double kEvictTo = 0.9;                // of the limit, so that eviction comes in batches
constexpr std::uintmax_t kRoomBytes = 8 << 20;  // that a flush leaves to others
// Eviction empties the oldest blob files; collection rewrites what still lives in this oldest part of them.
constexpr double kCollectedPart = 0.25;

const rocksdb::WriteOptions kNoLog = [] {
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  return options;
}();

// Calls visit(index key, entry) from the oldest entry on, until it returns false.
template <typename Visit>
void VisitIndex(rocksdb::DB& db, Visit visit) {
  const std::unique_ptr<rocksdb::Iterator> it(db.NewIterator({}));
  for (it->Seek("i"); it->Valid() && it->key().starts_with("i"); it->Next()) {
    IndexEntry entry;
    if (it->key().size() != 9 || it->value().size() != sizeof entry) continue;
    std::memcpy(&entry, it->value().data(), sizeof entry);
    if (!visit(it->key(), entry)) return;
  }
}

// What the system says where a test makes it fail.
rocksdb::Status Injected() { return rocksdb::Status::IOError(std::strerror(errno)); }

}  // namespace

AnswerTable::Found AnswerTable::Get(const Digest& key, std::string* value) const {
  if (failpoint::Fails("cache.get")) return Found::kDamaged;
  const rocksdb::Status status = db_->Get({}, DigestKey('s', key), value);
  return status.ok() ? Found::kYes : status.IsNotFound() ? Found::kNo : Found::kDamaged;
}

bool AnswerTable::Has(const Digest& key) const {
  std::string ignored;
  return Get(key, &ignored) == Found::kYes;
}

bool AnswerTable::WasEvicted(const Digest& key) const {
  std::string ignored;
  return db_->Get({}, DigestKey('e', key), &ignored).ok();
}

std::vector<std::string> AnswerTable::Fingerprints() const {
  std::vector<std::string> texts;
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
  for (it->Seek("f"); it->Valid() && it->key().starts_with("f"); it->Next()) {
    texts.push_back(it->key().ToString().substr(1));
  }
  return texts;
}

void AnswerTable::VisitPlaces(const Digest& experiment,
                              const std::function<void(const AnswerPlace&, const Digest&)>& visit) const {
  const std::string prefix = DigestKey('t', experiment);
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
  for (it->Seek(prefix); it->Valid() && it->key().starts_with(prefix); it->Next()) {
    Digest key;
    if (it->key().size() != kPlaceKeyBytes || it->value().size() != sizeof key) continue;
    std::memcpy(&key, it->value().data(), sizeof key);
    visit(PlaceIn({it->key().data(), it->key().size()}, experiment), key);
  }
}

void AnswerTable::CountEntries() {
  VisitIndex(*db_, [&](const rocksdb::Slice& index_key, const IndexEntry& entry) {
    next_sequence_ = NumberAt({index_key.data(), index_key.size()}, 1) + 1;
    ++entries_;
    bytes_ += static_cast<std::int64_t>(entry.size);
    return true;
  });
}

void AnswerTable::Put(const Digest& key, const std::string& value) {
  if (Has(key)) return;
  const IndexEntry entry{key, value.size()};
  rocksdb::WriteBatch batch;
  batch.Put(DigestKey('s', key), value);
  batch.Put(IndexKey(next_sequence_++), {reinterpret_cast<const char*>(&entry), sizeof entry});
  batch.Delete(DigestKey('e', key));
  Check(failpoint::Fails("cache.put") ? Injected() : db_->Write(kNoLog, &batch), "write");
  ++entries_;
  bytes_ += static_cast<std::int64_t>(value.size());
  EvictIfOver();
}

// Reads the whole index, which corruption is rare enough for.
void AnswerTable::Remove(const Digest& key) {
  rocksdb::WriteBatch batch;
  batch.Delete(DigestKey('s', key));
  std::int64_t size = 0;
  VisitIndex(*db_, [&](const rocksdb::Slice& index_key, const IndexEntry& entry) {
    if (entry.key != key) return true;
    batch.Delete(index_key);
    size = static_cast<std::int64_t>(entry.size);
    return false;
  });
  Check(db_->Write(kNoLog, &batch), "remove");
  if (size > 0) --entries_;
  bytes_ -= size;
}

void AnswerTable::Record(const AnswerPlace& place, const Digest& key) {
  const rocksdb::Slice value(reinterpret_cast<const char*>(&key), sizeof key);
  Check(db_->Put(kNoLog, PlaceKey(place), value), "write");
}

void AnswerTable::AddFingerprint(const std::string& text) { Check(db_->Put(kNoLog, "f" + text, ""), "write"); }

void AnswerTable::EvictIfOver() {
  if (bytes_ <= limit_bytes_) return;
  std::int64_t left = bytes_, entries = 0;
  const auto goal = static_cast<std::int64_t>(kEvictTo * static_cast<double>(limit_bytes_));
  rocksdb::WriteBatch batch;
  VisitIndex(*db_, [&](const rocksdb::Slice& index_key, const IndexEntry& entry) {
    batch.Delete(DigestKey('s', entry.key));
    batch.Delete(index_key);
    batch.Put(DigestKey('e', entry.key), "");
    ++entries;
    left -= static_cast<std::int64_t>(entry.size);
    return left > goal;
  });
  Check(db_->Write(kNoLog, &batch), "evict");
  LogInfo("score cache: evicted the ", entries, " oldest entries, ", (bytes_ - left) >> 10, " KiB");
  entries_ -= entries;
  bytes_ = left;
  evicted_ += entries;
  // Deletes alone give no disk space back: the values lie in blob files. Collection is left to this moment because in
  // every compaction it would rewrite values that are still wanted.
  rocksdb::CompactRangeOptions collect;
  collect.blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kForce;
  collect.blob_garbage_collection_age_cutoff = kCollectedPart;
  Check(db_->CompactRange(collect, nullptr, nullptr), "compact");
}

void AnswerTable::Flush() {
  RequireRoom();
  Check(failpoint::Fails("cache.flush") ? Injected() : db_->Flush({}), "flush");
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
