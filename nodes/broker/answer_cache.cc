#include "nodes/broker/answer_cache.h"

#include <rocksdb/db.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "common/error/error.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "nodes/broker/answer_value.h"

namespace sgmd {
namespace {

constexpr char kFormatKey[] = "version";
constexpr char kFormat[] = "sgmd-score-cache-1";
constexpr std::size_t kQueueLimit = 64;       // values waiting for the writer
constexpr double kEvictTo = 0.9;              // of the limit, so that eviction comes in batches
constexpr std::uint64_t kMinBlobBytes = 512;  // smaller values stay in the tables
// Eviction empties the oldest blob files; collection rewrites what still lives in this oldest part of them.
constexpr double kCollectedPart = 0.25;
constexpr std::size_t kFilesOfLimit = 16, kMinFileBytes = 64 << 10, kMaxFileBytes = 32 << 20;

void Check(const rocksdb::Status& status, const char* action, const std::string& where,
           const char* hint = "is the disk full?") {
  if (!status.ok()) throw Error(StrCat("score cache: cannot ", action, ": ", status.ToString()), where, hint);
}

// What the system says where a test makes it fail.
rocksdb::Status Injected() { return rocksdb::Status::IOError(std::strerror(errno)); }

std::string ValueKey(const Digest& key) {
  std::string text(17, 's');
  std::memcpy(text.data() + 1, &key.hi, 8);
  std::memcpy(text.data() + 9, &key.lo, 8);
  return text;
}

std::string IndexKey(std::uint64_t sequence) {
  std::string text(9, 'i');
  const std::uint64_t big_endian = __builtin_bswap64(sequence);
  std::memcpy(text.data() + 1, &big_endian, 8);
  return text;
}

struct IndexEntry {
  Digest key;
  std::uint64_t size;
};
static_assert(sizeof(IndexEntry) == 24);

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

rocksdb::Options MakeOptions(std::int64_t limit_bytes) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.enable_blob_files = true;
  options.min_blob_size = kMinBlobBytes;
  options.write_buffer_size =
      std::clamp(static_cast<std::size_t>(limit_bytes) / kFilesOfLimit, kMinFileBytes, kMaxFileBytes);
  options.blob_file_size = options.write_buffer_size;
  options.max_background_jobs = 2;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = 2;
  return options;
}

}  // namespace

struct AnswerCache::Impl {
  struct Job {
    Digest key;
    std::optional<TensorFrame> answer;  // absent: remove what is there
  };

  std::string folder;
  std::int64_t limit_bytes = 0;
  std::unique_ptr<rocksdb::DB> db;
  rocksdb::WriteOptions no_log;
  Stats reads;  // the calling thread's part of the statistics

  mutable std::mutex mutex;  // guards everything below
  std::condition_variable changed;
  std::deque<Job> queue;
  bool writing = false, stopping = false, broken = false;
  Stats writes;
  std::uint64_t next_sequence = 0;  // the writer's, and the opener's before it starts
  std::thread writer;

  void Open();
  void RunWriter();
  void Write(const Job& job);
  void Remove(const Digest& key);
  void EvictIfOver();
  void Count(std::int64_t entries, std::int64_t bytes, std::int64_t evicted = 0);
  void GiveUp(const std::string& why);
};

void AnswerCache::Impl::Open() {
  rocksdb::DB* opened = nullptr;
  std::filesystem::create_directories(folder);
  Check(rocksdb::DB::Open(MakeOptions(limit_bytes), folder, &opened), "open", folder, "is another run using it?");
  db.reset(opened);
  no_log.disableWAL = true;
  std::string format;
  if (db->Get({}, kFormatKey, &format).IsNotFound()) {
    Check(db->Put(no_log, kFormatKey, kFormat), "write", folder);
  } else if (format != kFormat) {
    throw Error("score cache has format \"" + format + "\", this program reads " + kFormat, folder,
                "remove the folder, or name another one in [cache] folder");
  }
  VisitIndex(*db, [&](const rocksdb::Slice& index_key, const IndexEntry& entry) {
    std::uint64_t big_endian = 0;
    std::memcpy(&big_endian, index_key.data() + 1, 8);
    next_sequence = __builtin_bswap64(big_endian) + 1;
    Count(1, static_cast<std::int64_t>(entry.size));
    return true;
  });
}

void AnswerCache::Impl::Count(std::int64_t entries, std::int64_t bytes, std::int64_t evicted) {
  const std::lock_guard lock(mutex);
  writes.entries += entries;
  writes.bytes += bytes;
  writes.evicted += evicted;
}

void AnswerCache::Impl::Write(const Job& job) {
  std::string ignored;
  if (!job.answer) return Remove(job.key);
  if (db->Get({}, ValueKey(job.key), &ignored).ok()) return;
  const std::string value = EncodeAnswer(job.answer->view);
  const IndexEntry entry{job.key, value.size()};
  rocksdb::WriteBatch batch;
  batch.Put(ValueKey(job.key), value);
  batch.Put(IndexKey(next_sequence++), {reinterpret_cast<const char*>(&entry), sizeof entry});
  Check(failpoint::Fails("cache.put") ? Injected() : db->Write(no_log, &batch), "write", folder);
  Count(1, static_cast<std::int64_t>(value.size()));
  EvictIfOver();
}

// Reads the whole index, which corruption is rare enough for.
void AnswerCache::Impl::Remove(const Digest& key) {
  rocksdb::WriteBatch batch;
  batch.Delete(ValueKey(key));
  std::int64_t size = 0;
  VisitIndex(*db, [&](const rocksdb::Slice& index_key, const IndexEntry& entry) {
    if (entry.key != key) return true;
    batch.Delete(index_key);
    size = static_cast<std::int64_t>(entry.size);
    return false;
  });
  Check(db->Write(no_log, &batch), "remove", folder);
  if (size > 0) Count(-1, -size);
}

void AnswerCache::Impl::EvictIfOver() {
  if (writes.bytes <= limit_bytes) return;
  std::int64_t left = writes.bytes, entries = 0;
  const auto goal = static_cast<std::int64_t>(kEvictTo * static_cast<double>(limit_bytes));
  rocksdb::WriteBatch batch;
  VisitIndex(*db, [&](const rocksdb::Slice& index_key, const IndexEntry& entry) {
    batch.Delete(ValueKey(entry.key));
    batch.Delete(index_key);
    ++entries;
    left -= static_cast<std::int64_t>(entry.size);
    return left > goal;
  });
  Check(db->Write(no_log, &batch), "evict", folder);
  // Deletes alone give no disk space back: the values lie in blob files. Collection is left to this moment because in
  // every compaction it would rewrite values that are still wanted.
  rocksdb::CompactRangeOptions collect;
  collect.blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kForce;
  collect.blob_garbage_collection_age_cutoff = kCollectedPart;
  Check(db->CompactRange(collect, nullptr, nullptr), "compact", folder);
  LogInfo("score cache: evicted the ", entries, " oldest entries, ", (writes.bytes - left) >> 10, " KiB");
  Count(-entries, left - writes.bytes, entries);
}

void AnswerCache::Impl::GiveUp(const std::string& why) {
  LogError(why, "; no more answers of teachers are stored in this run");
  const std::lock_guard lock(mutex);
  broken = true;
  queue.clear();
}

void AnswerCache::Impl::RunWriter() {
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, [&] { return stopping || !queue.empty(); });
    if (queue.empty()) return;
    const Job job = std::move(queue.front());
    queue.pop_front();
    writing = true;
    lock.unlock();
    try {
      Write(job);
    } catch (const Error& failure) {
      GiveUp(failure.what());
    }
    lock.lock();
    writing = false;
    changed.notify_all();
  }
}

AnswerCache::AnswerCache(const std::filesystem::path& folder, double limit_gib) : impl_(std::make_unique<Impl>()) {
  impl_->folder = folder.string();
  impl_->limit_bytes = static_cast<std::int64_t>(limit_gib * static_cast<double>(1 << 30));
  impl_->Open();
  impl_->writer = std::thread([impl = impl_.get()] { impl->RunWriter(); });
}

AnswerCache::~AnswerCache() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->changed.notify_all();
  impl_->writer.join();
  const rocksdb::Status status = impl_->db->Flush({});
  if (!status.ok()) LogError("score cache: cannot flush: ", status.ToString());
}

std::optional<TensorFrame> AnswerCache::Lookup(const Digest& key) {
  const auto start = std::chrono::steady_clock::now();
  auto value = std::make_shared<std::string>();
  const rocksdb::Status status =
      failpoint::Fails("cache.get") ? Injected() : impl_->db->Get({}, ValueKey(key), value.get());
  const std::size_t bytes = value->size();
  std::optional<TensorFrame> frame;
  if (status.ok()) frame = DecodeAnswer(std::move(value));
  if (frame) {
    ++impl_->reads.hits;
    impl_->reads.hit_bytes += static_cast<double>(bytes);
    impl_->reads.hit_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return frame;
  }
  ++impl_->reads.misses;
  if (status.IsNotFound()) return {};
  ++impl_->reads.corrupt;
  LogWarning("score cache: entry ", key.Hex(), " is corrupt and will be recomputed");
  const std::lock_guard lock(impl_->mutex);
  if (!impl_->broken) impl_->queue.push_back({key, {}});
  impl_->changed.notify_all();
  return {};
}

void AnswerCache::Store(const Digest& key, const TensorFrame& answer) {
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait(lock, [&] { return impl_->queue.size() < kQueueLimit; });
  if (impl_->broken) return;
  impl_->queue.push_back({key, answer});
  impl_->changed.notify_all();
}

void AnswerCache::Sync() {
  {
    std::unique_lock lock(impl_->mutex);
    impl_->changed.wait(lock, [&] { return impl_->queue.empty() && !impl_->writing; });
    if (impl_->broken) return;
  }
  const rocksdb::Status status = failpoint::Fails("cache.flush") ? Injected() : impl_->db->Flush({});
  if (!status.ok()) impl_->GiveUp(StrCat("score cache: cannot flush ", impl_->folder, ": ", status.ToString()));
}

void AnswerCache::RecordFingerprint(const ScorerFingerprint& scorer) {
  Check(impl_->db->Put(impl_->no_log, "f" + scorer.Text(), ""), "write", impl_->folder);
}

void AnswerCache::RequireFingerprint(const ScorerFingerprint& scorer) const {
  std::string ignored;
  if (impl_->db->Get({}, "f" + scorer.Text(), &ignored).ok()) return;
  std::string recorded;
  const std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator({}));
  for (it->Seek("f"); it->Valid() && it->key().starts_with("f"); it->Next()) {
    recorded += "\n  recorded: " + it->key().ToString().substr(1);
  }
  throw Error(
      StrCat("the score cache holds nothing of ", scorer.Text(), recorded.empty() ? "\n  it is empty" : recorded),
      impl_->folder, "replay the experiment that was recorded, or run it with `up` to record it");
}

AnswerStore::Stats AnswerCache::stats() const {
  const std::lock_guard lock(impl_->mutex);
  Stats stats = impl_->reads;
  stats.evicted = impl_->writes.evicted;
  stats.entries = impl_->writes.entries;
  stats.bytes = impl_->writes.bytes;
  return stats;
}

}  // namespace sgmd
