#include "nodes/broker/answer_segments.h"

#include <rocksdb/db.h>

#include <algorithm>
#include <charconv>
#include <mutex>
#include <ranges>

#include "nodes/broker/answer_table_keys.h"

namespace sgmd {
namespace {

constexpr std::string_view kPrefix = "segment-";

}  // namespace

AnswerSegments::AnswerSegments(rocksdb::DB& db) : db_(db) {}
AnswerSegments::~AnswerSegments() = default;

std::string AnswerSegments::NameOf(std::uint64_t number) { return std::string(kPrefix) + std::to_string(number); }

std::optional<std::uint64_t> AnswerSegments::NumberIn(std::string_view name) {
  if (!name.starts_with(kPrefix)) return {};
  name.remove_prefix(kPrefix.size());
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size()) return {};
  return number;
}

void AnswerSegments::Add(Segment segment) {
  next_number_ = std::max(next_number_, segment.number + 1);
  entries_ += segment.entries;
  bytes_ += segment.bytes;
  const std::unique_lock lock(mutex_);
  all_.push_back(std::move(segment));
}

rocksdb::Status AnswerSegments::Create() {
  // A number whose creation failed may be taken all the same.
  const std::uint64_t number = next_number_++;
  rocksdb::ColumnFamilyHandle* files = nullptr;
  const rocksdb::Status status = db_.CreateColumnFamily(db_.GetOptions(), NameOf(number), &files);
  if (status.ok()) Add({number, std::unique_ptr<rocksdb::ColumnFamilyHandle>(files)});
  return status;
}

rocksdb::Status AnswerSegments::DropOldest() {
  const rocksdb::Status status = db_.DropColumnFamily(all_.front().files.get());
  if (!status.ok()) return status;
  Segment dropped;
  {
    const std::unique_lock lock(mutex_);
    dropped = std::move(all_.front());
    all_.pop_front();
  }
  entries_ -= dropped.entries;
  bytes_ -= dropped.bytes;
  return status;  // the last handle goes, and the files with it: on this thread, since no reader has it now
}

AnswerSegments::Found AnswerSegments::GetFrom(const Segment& segment, const Digest& key, std::string* value) const {
  const rocksdb::Status status = db_.Get({}, segment.files.get(), DigestKey('s', key), value);
  return status.ok() ? Found::kYes : status.IsNotFound() ? Found::kNo : Found::kDamaged;
}

AnswerSegments::Found AnswerSegments::Get(const Digest& key, std::string* value) const {
  const std::shared_lock lock(mutex_);
  for (const Segment& segment : all_ | std::views::reverse) {
    if (const Found found = GetFrom(segment, key, value); found != Found::kNo) return found;
  }
  return Found::kNo;
}

bool AnswerSegments::MayHave(const Digest& key) const {
  rocksdb::ReadOptions memory_alone;
  memory_alone.read_tier = rocksdb::kBlockCacheTier;
  const std::string spelled = DigestKey('s', key);
  const std::shared_lock lock(mutex_);
  return std::ranges::any_of(all_ | std::views::reverse, [&](const Segment& segment) {
    rocksdb::PinnableSlice ignored;
    return !db_.Get(memory_alone, segment.files.get(), spelled, &ignored).IsNotFound();
  });
}

AnswerSegments::Segment* AnswerSegments::Holding(const Digest& key) {
  std::string ignored;
  for (Segment& segment : all_ | std::views::reverse) {
    if (GetFrom(segment, key, &ignored) != Found::kNo) return &segment;
  }
  return nullptr;
}

void AnswerSegments::CountPut(std::int64_t bytes) {
  ++last().entries;
  last().bytes += bytes;
  ++entries_;
  bytes_ += bytes;
  last().unflushed = true;
}

void AnswerSegments::CountRemoved(Segment& segment) {
  --segment.entries;
  --entries_;
  segment.unflushed = true;
}

rocksdb::Status AnswerSegments::Flush() {
  std::vector<rocksdb::ColumnFamilyHandle*> unflushed{db_.DefaultColumnFamily()};
  for (const Segment& segment : all_) {
    if (segment.unflushed) unflushed.push_back(segment.files.get());
  }
  const rocksdb::Status status = db_.Flush({}, unflushed);
  if (!status.ok()) return status;
  for (Segment& segment : all_) segment.unflushed = false;
  return status;
}

}  // namespace sgmd
