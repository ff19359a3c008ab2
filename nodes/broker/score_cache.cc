#include "nodes/broker/score_cache.h"

#include <rocksdb/db.h>

#include <array>
#include <bit>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "common/error/error.h"
#include "common/log/log.h"

namespace sgmd {
namespace {

// A value on disk, little-endian:
//   u32 magic "SGSC" | u8 version | u8 dtype | u8 rank | u8 zero | u64 XXH3-64 of payload | i64 shape[rank] | payload
constexpr std::uint32_t kMagic = 0x43534753;
constexpr std::uint8_t kVersion = 1;
struct ValueHeader {
  std::uint32_t magic;
  std::uint8_t version, dtype, rank, zero;
  std::uint64_t checksum;
};
static_assert(sizeof(ValueHeader) == 16);

constexpr char kFormatKey[] = "version";
constexpr char kFormat[] = "sgmd-score-cache-1";
constexpr std::size_t kQueueLimit = 64;       // values waiting for the writer
constexpr double kEvictTo = 0.9;              // of the limit, so that eviction comes in batches
constexpr std::uint64_t kMinBlobBytes = 512;  // smaller values stay in the tables

void Check(const rocksdb::Status& status, const std::string& action, const std::string& where) {
  if (!status.ok()) throw Error(StrCat("score cache: cannot ", action, ": ", status.ToString()), where, "is the disk full?");
}

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

std::string EncodeValue(const TensorView& view) {
  const ValueHeader header{kMagic, kVersion, static_cast<std::uint8_t>(view.dtype),
                           static_cast<std::uint8_t>(view.shape.size()), 0, Checksum(view.bytes)};
  std::string value(sizeof header + 8 * view.shape.size(), '\0');
  std::memcpy(value.data(), &header, sizeof header);
  std::memcpy(value.data() + sizeof header, view.shape.data(), 8 * view.shape.size());
  value.append(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size());
  return value;
}

// Nothing unless the value is whole and its checksum holds. The frame shares the slice's bytes.
std::optional<TensorFrame> DecodeValue(std::shared_ptr<const rocksdb::PinnableSlice> slice) {
  ValueHeader header{};
  if (slice->size() < sizeof header) return {};
  std::memcpy(&header, slice->data(), sizeof header);
  const std::size_t payload_at = sizeof header + 8 * std::size_t{header.rank};
  if (header.magic != kMagic || header.version != kVersion || header.dtype >= kDTypeCount || slice->size() < payload_at) {
    return {};
  }
  TensorFrame frame;
  frame.view = {"velocity", static_cast<DType>(header.dtype), std::vector<std::int64_t>(header.rank), {}};
  std::memcpy(frame.view.shape.data(), slice->data() + sizeof header, 8 * std::size_t{header.rank});
  frame.view.bytes = {reinterpret_cast<const std::byte*>(slice->data()) + payload_at, slice->size() - payload_at};
  try {
    if (CheckedByteSize(frame.view.dtype, frame.view.shape) != frame.view.bytes.size()) return {};
  } catch (const Error&) {
    return {};
  }
  if (Checksum(frame.view.bytes) != header.checksum) return {};
  frame.owner = std::move(slice);
  return frame;
}

}  // namespace

std::string ScorerFingerprint::Text() const { return StrCat("teacher ", teacher.Hex(), ", guidance ", guidance); }

Digest ScoreKey(const ScorerFingerprint& scorer, const Envelope& sample) {
  Hasher hasher;
  hasher.Text("velocity").Integer(scorer.teacher.hi).Integer(scorer.teacher.lo).Real(scorer.guidance);
  for (const char* name : {"sigma", "prompts", "x_s"}) {
    const TensorView& view = sample.At(name).view;
    hasher.Text(Name(view.dtype)).Bytes(std::as_bytes(std::span(view.shape))).Bytes(view.bytes);
  }
  return hasher.Finish();
}

struct ScoreCache::Impl {
  std::string folder;
  std::int64_t limit_bytes = 0;
  std::unique_ptr<rocksdb::DB> db;
  rocksdb::WriteOptions no_log;
  Stats reads;  // the calling thread's part of the statistics

  mutable std::mutex mutex;  // guards everything below
  std::condition_variable changed;
  std::deque<std::pair<Digest, TensorFrame>> queue;
  bool writing = false, stopping = false;
  std::string write_error;
  Stats writes;
  std::uint64_t next_sequence = 0;  // the writer's, and the opener's before it starts
  std::thread writer;

  void Open();
  void LoadIndex();
  void RunWriter();
  void Write(const Digest& key, const TensorFrame& velocity);
  void EvictIfOver();
};

void ScoreCache::Impl::Open() {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.enable_blob_files = true;
  options.min_blob_size = kMinBlobBytes;
  options.enable_blob_garbage_collection = true;
  options.blob_garbage_collection_age_cutoff = 1.0;
  options.write_buffer_size = 32 << 20;
  options.max_background_jobs = 2;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = 2;
  rocksdb::DB* opened = nullptr;
  std::filesystem::create_directories(folder);
  Check(rocksdb::DB::Open(options, folder, &opened), "open", folder);
  db.reset(opened);
  no_log.disableWAL = true;
  std::string format;
  if (db->Get({}, kFormatKey, &format).IsNotFound()) {
    Check(db->Put(no_log, kFormatKey, kFormat), "write", folder);
  } else if (format != kFormat) {
    throw Error("score cache has format \"" + format + "\", this program reads " + kFormat, folder, "use another folder");
  }
}

void ScoreCache::Impl::LoadIndex() {
  const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator({}));
  for (it->Seek("i"); it->Valid() && it->key().starts_with("i"); it->Next()) {
    std::uint64_t big_endian = 0, size = 0;
    std::memcpy(&big_endian, it->key().data() + 1, 8);
    std::memcpy(&size, it->value().data() + 16, 8);
    next_sequence = __builtin_bswap64(big_endian) + 1;
    ++writes.entries;
    writes.bytes += static_cast<std::int64_t>(size);
  }
}

void ScoreCache::Impl::Write(const Digest& key, const TensorFrame& velocity) {
  const std::string value = EncodeValue(velocity.view);
  std::string index(24, '\0');
  const std::uint64_t size = value.size();
  std::memcpy(index.data(), &key.hi, 8);
  std::memcpy(index.data() + 8, &key.lo, 8);
  std::memcpy(index.data() + 16, &size, 8);
  rocksdb::WriteBatch batch;
  batch.Put(ValueKey(key), value);
  batch.Put(IndexKey(next_sequence), index);
  Check(db->Write(no_log, &batch), "write", folder);
  ++next_sequence;
  const std::lock_guard lock(mutex);
  ++writes.entries;
  writes.bytes += static_cast<std::int64_t>(size);
}

void ScoreCache::Impl::EvictIfOver() {
  if (writes.bytes <= limit_bytes) return;
  Stats removed;
  const auto goal = static_cast<std::int64_t>(kEvictTo * static_cast<double>(limit_bytes));
  const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator({}));
  rocksdb::WriteBatch batch;
  for (it->Seek("i"); it->Valid() && it->key().starts_with("i") && writes.bytes - removed.bytes > goal; it->Next()) {
    Digest key;
    std::uint64_t size = 0;
    std::memcpy(&key.hi, it->value().data(), 8);
    std::memcpy(&key.lo, it->value().data() + 8, 8);
    std::memcpy(&size, it->value().data() + 16, 8);
    batch.Delete(ValueKey(key));
    batch.Delete(it->key());
    ++removed.entries;
    removed.bytes += static_cast<std::int64_t>(size);
  }
  Check(db->Write(no_log, &batch), "evict", folder);
  Check(db->CompactRange({}, nullptr, nullptr), "compact", folder);  // returns the space of the dead blobs
  LogInfo("score cache: evicted ", removed.entries, " oldest entries, ", removed.bytes >> 20, " MiB");
  const std::lock_guard lock(mutex);
  writes.entries -= removed.entries;
  writes.bytes -= removed.bytes;
  writes.evicted += removed.entries;
}

void ScoreCache::Impl::RunWriter() {
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, [&] { return stopping || !queue.empty(); });
    if (queue.empty()) return;
    auto [key, velocity] = std::move(queue.front());
    queue.pop_front();
    writing = true;
    lock.unlock();
    std::string error;
    try {
      Write(key, velocity);
      EvictIfOver();
    } catch (const Error& failure) {
      error = failure.what();
    }
    lock.lock();
    writing = false;
    if (!error.empty()) write_error = error;
    changed.notify_all();
  }
}

ScoreCache::ScoreCache(const std::filesystem::path& folder, double limit_gib) : impl_(std::make_unique<Impl>()) {
  impl_->folder = folder.string();
  impl_->limit_bytes = static_cast<std::int64_t>(limit_gib * static_cast<double>(1 << 30));
  impl_->Open();
  impl_->LoadIndex();
  impl_->writer = std::thread([impl = impl_.get()] { impl->RunWriter(); });
}

ScoreCache::~ScoreCache() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->changed.notify_all();
  impl_->writer.join();
  const rocksdb::Status status = impl_->db->Flush({});
  if (!status.ok()) LogError("score cache: cannot flush: ", status.ToString());
}

std::optional<TensorFrame> ScoreCache::Lookup(const Digest& key) {
  const auto start = std::chrono::steady_clock::now();
  auto slice = std::make_shared<rocksdb::PinnableSlice>();
  const rocksdb::Status status = impl_->db->Get({}, impl_->db->DefaultColumnFamily(), ValueKey(key), slice.get());
  const std::size_t bytes = slice->size();
  std::optional<TensorFrame> frame;
  if (status.ok()) frame = DecodeValue(std::move(slice));
  if (!frame) {
    ++impl_->reads.misses;
    if (!status.IsNotFound()) {
      ++impl_->reads.corrupt;
      LogWarning("score cache: entry ", key.Hex(), " is corrupt and will be recomputed");
      impl_->db->Delete(impl_->no_log, ValueKey(key));
    }
    return {};
  }
  ++impl_->reads.hits;
  impl_->reads.hit_bytes += static_cast<double>(bytes);
  impl_->reads.hit_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return frame;
}

void ScoreCache::Store(const Digest& key, const TensorFrame& velocity) {
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait(lock, [&] { return impl_->queue.size() < kQueueLimit; });
  if (!impl_->write_error.empty()) throw Error(impl_->write_error);
  impl_->queue.emplace_back(key, velocity);
  impl_->changed.notify_all();
}

void ScoreCache::Sync() {
  {
    std::unique_lock lock(impl_->mutex);
    impl_->changed.wait(lock, [&] { return impl_->queue.empty() && !impl_->writing; });
    if (!impl_->write_error.empty()) throw Error(impl_->write_error);
  }
  Check(impl_->db->Flush({}), "flush", impl_->folder);
}

void ScoreCache::RecordFingerprint(const ScorerFingerprint& scorer) {
  Check(impl_->db->Put(impl_->no_log, "f" + scorer.Text(), ""), "write", impl_->folder);
}

void ScoreCache::RequireFingerprint(const ScorerFingerprint& scorer) const {
  std::string ignored;
  if (impl_->db->Get({}, "f" + scorer.Text(), &ignored).ok()) return;
  std::string recorded;
  const std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator({}));
  for (it->Seek("f"); it->Valid() && it->key().starts_with("f"); it->Next()) {
    recorded += "\n  recorded: " + it->key().ToString().substr(1);
  }
  throw Error(StrCat("the score cache holds nothing of ", scorer.Text(), recorded.empty() ? "\n  it is empty" : recorded),
              impl_->folder, "replay the experiment that was recorded, or run it with `up` to record it");
}

ScoreCache::Stats ScoreCache::stats() const {
  const std::lock_guard lock(impl_->mutex);
  Stats stats = impl_->reads;
  stats.evicted = impl_->writes.evicted;
  stats.entries = impl_->writes.entries + static_cast<std::int64_t>(impl_->queue.size());
  stats.bytes = impl_->writes.bytes;
  return stats;
}

}  // namespace sgmd
