// How the database of the answer cache is opened, whatever state it is in.
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <ctime>
#include <limits>
#include <map>
#include <system_error>

#include "common/log/log.h"
#include "nodes/broker/answer_table_keys.h"

namespace sgmd {
namespace {

constexpr char kFormatKey[] = "version";
constexpr char kFormat[] = "sgmd-score-cache-2";
constexpr std::uint64_t kMinBlobBytes = 512;  // smaller values stay in the tables
constexpr std::size_t kFilesOfLimit = 16, kMinFileBytes = 64 << 10, kMaxFileBytes = 32 << 20;
constexpr std::int64_t kSegmentsOfLimit = 16;
constexpr std::size_t kManifestBytes = 1 << 20, kBloomBitsPerKey = 10;

rocksdb::Options MakeOptions(std::size_t flush_bytes) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.atomic_flush = true;
  options.enable_blob_files = true;
  options.min_blob_size = kMinBlobBytes;
  options.write_buffer_size = 2 * flush_bytes;  // flushed on purpose before it is full, so that a failure is noticed
  // Tables of keys are compacted in the background, and no write waits for that; blob files are never rewritten.
  options.level0_slowdown_writes_trigger = options.level0_stop_writes_trigger = std::numeric_limits<int>::max();
  options.soft_pending_compaction_bytes_limit = options.hard_pending_compaction_bytes_limit = 0;
  options.max_background_jobs = 2;
  options.max_bgerror_resume_count = 0;  // the writer resumes
  options.max_manifest_file_size = kManifestBytes;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = 2;
  rocksdb::BlockBasedTableOptions tables;
  tables.filter_policy.reset(rocksdb::NewBloomFilterPolicy(kBloomBitsPerKey));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(tables));
  return options;
}

bool Says(const rocksdb::Status& status, const char* words) {
  return status.ToString().find(words) != std::string::npos;
}

bool IsLocked(const rocksdb::Status& s) { return s.IsIOError() && (Says(s, "lock file") || Says(s, "lock hold")); }

bool IsForbidden(const rocksdb::Status& s) {
  return s.IsIOError() && (Says(s, "Read-only file system") || Says(s, "Permission denied"));
}

bool IsDamage(const rocksdb::Status& s) {
  return s.IsCorruption() || s.IsInvalidArgument() || s.IsNotFound() || s.IsNotSupported() ||
         (s.IsIOError() && (s.IsPathNotFound() || Says(s, "No such file") || Says(s, "Is a directory")));
}

std::string UtcTime() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &utc);
  return text;
}

void SetAside(const std::filesystem::path& folder, const std::string& why) {
  const std::string aside = StrCat(folder.string(), ".damaged-", UtcTime());
  std::error_code failure;
  std::filesystem::rename(folder, aside, failure);
  if (failure) throw DiskTrouble("cannot set aside the damaged score cache: " + failure.message(), folder.string());
  LogWarning("the score cache ", folder.string(), " is damaged (", why, "); it was set aside as ", aside,
             " and a new one is made");
}

}  // namespace

AnswerTable::AnswerTable(std::filesystem::path folder, std::int64_t limit_bytes)
    : folder_(std::move(folder)),
      limit_bytes_(limit_bytes),
      segment_bytes_(limit_bytes / kSegmentsOfLimit),
      flush_bytes_(std::clamp(static_cast<std::size_t>(limit_bytes) / kFilesOfLimit, kMinFileBytes, kMaxFileBytes)) {}

AnswerTable::~AnswerTable() = default;

rocksdb::Status AnswerTable::OpenDatabase(bool read_only) {
  rocksdb::Options options = MakeOptions(flush_bytes_);
  // With all files held open, RocksDB 7.8 takes a database of one file for one without blob files, and finds nothing.
  if (read_only) options.max_open_files = 1000;
  std::vector<std::string> names{rocksdb::kDefaultColumnFamilyName};
  if (std::filesystem::exists(folder_ / "CURRENT")) {
    const rocksdb::Status status = rocksdb::DB::ListColumnFamilies(options, folder_.string(), &names);
    if (!status.ok()) return status;
  }
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const std::string& name : names) families.emplace_back(name, options);
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status =
      read_only ? rocksdb::DB::OpenForReadOnly(options, folder_.string(), families, &handles, &opened)
                : rocksdb::DB::Open(options, folder_.string(), families, &handles, &opened);
  if (!status.ok()) return status;
  db_.reset(opened);
  read_only_ = read_only;
  segments_ = std::make_unique<AnswerSegments>(*db_);
  std::map<std::uint64_t, std::unique_ptr<rocksdb::ColumnFamilyHandle>> segments;  // in ascending order
  for (std::size_t i = 0; i < handles.size(); ++i) {
    std::unique_ptr<rocksdb::ColumnFamilyHandle> handle(handles[i]);
    if (const auto number = AnswerSegments::NumberIn(names[i])) segments[*number] = std::move(handle);
  }
  for (auto& [number, handle] : segments) {
    const SegmentCounts counts = CountsOf(number);
    segments_->Add({number, std::move(handle), counts.entries, counts.bytes});
  }
  return status;
}

// None where nothing of it was flushed before a crash.
SegmentCounts AnswerTable::CountsOf(std::uint64_t segment) const {
  std::string text;
  SegmentCounts counts{};
  db_->Get({}, CountsKey(segment), &text);
  if (text.size() == sizeof counts) std::memcpy(&counts, text.data(), sizeof counts);
  return counts;
}

void AnswerTable::CheckFormat() {
  std::string format;
  if (db_->Get({}, kFormatKey, &format).IsNotFound()) {
    rocksdb::WriteOptions no_log;
    no_log.disableWAL = true;
    if (!read_only_) Check(db_->Put(no_log, kFormatKey, kFormat), "write");
  } else if (format != kFormat) {
    throw Error("score cache has format \"" + format + "\", this program reads " + kFormat, folder_.string(),
                "remove the folder, or name another one in [cache] folder");
  }
}

std::shared_ptr<AnswerTable> AnswerTable::Open(const std::filesystem::path& folder, std::int64_t limit_bytes,
                                               OnDamage on_damage) {
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  if (failure && !std::filesystem::is_directory(folder))
    throw DiskTrouble("cannot make the folder of the score cache: " + failure.message(), folder.string());
  std::shared_ptr<AnswerTable> table(new AnswerTable(folder, limit_bytes));
  if (on_damage == OnDamage::kSetAside) table->RequireRoom();
  rocksdb::Status status = table->OpenDatabase(false);
  if (IsForbidden(status)) status = table->OpenDatabase(true);
  if (IsLocked(status))
    throw Error("the score cache is open in another process", folder.string(),
                "another run is using it: end that one, or name another folder in [cache] folder");
  if (IsDamage(status)) {
    if (on_damage == OnDamage::kFail)
      throw TableDamaged("the score cache is damaged: " + status.ToString(), folder.string(),
                         "a replay needs it as it was: restore it from a copy, or record the run again with `up`");
    SetAside(folder, status.ToString());
    return Open(folder, limit_bytes, OnDamage::kFail);
  }
  table->Check(status, "open");
  table->CheckFormat();
  if (!table->read_only_ && table->segments_->all().empty()) table->Check(table->segments_->Create(), "begin");
  return table;
}

std::shared_ptr<AnswerTable> AnswerTable::OpenToRead(const std::filesystem::path& folder) {
  std::shared_ptr<AnswerTable> table(new AnswerTable(folder, 0));
  const rocksdb::Status status = table->OpenDatabase(true);
  if (!status.ok())
    throw TableDamaged("the score cache cannot be read: " + status.ToString(), folder.string(),
                       "record the run with `up` first");
  table->CheckFormat();
  return table;
}

}  // namespace sgmd
