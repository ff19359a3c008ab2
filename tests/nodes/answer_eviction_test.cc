// The answer cache's files: what is dropped above the limit, what a crash leaves, and that nobody waits for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include <csignal>
#include <thread>

#include "nodes/broker/answer_cache.h"
#include "tests/nodes/looked_up.h"
#include "tests/support/error_of.h"
#include "tests/support/failpoints_here.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kLimit = 4 << 20, kSegment = kLimit / 16;
constexpr std::size_t kValueBytes = 64 << 10;      // four of them a segment
constexpr std::chrono::milliseconds kAtOnce{250};  // a machine that is busy with other tests has its own pauses
const Digest kExperiment{8, 8};

Digest Key(int i) { return {7, static_cast<std::uint64_t>(i)}; }
AnswerPlace Place(int step) { return {kExperiment, 0, 0, step, 0}; }
std::string Value(int i) { return std::string(kValueBytes, static_cast<char>('a' + i % 26)); }

std::shared_ptr<AnswerTable> OpenTable(const std::filesystem::path& folder) {
  return AnswerTable::Open(folder, kLimit, AnswerTable::OnDamage::kFail);
}

// Puts and records the answers [begin, end).
void Fill(AnswerTable& table, int begin, int end) {
  for (int i = begin; i < end; ++i) {
    table.Put(Key(i), Value(i));
    table.Record(Place(i), Key(i));
  }
}

struct Counts {
  int there = 0, evicted = 0, lost = 0;
  auto operator<=>(const Counts&) const = default;
};

Counts CountPlaces(const AnswerTable& table) {
  Counts counts;
  table.VisitPlaces(kExperiment, [&](const AnswerPlace&, const Digest& key, bool evicted) {
    ++(table.Has(key) ? counts.there : evicted ? counts.evicted : counts.lost);
  });
  return counts;
}

std::uintmax_t BytesOnDisk(const std::filesystem::path& folder) {
  std::uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::error_code gone;  // RocksDB deletes files meanwhile
    const std::uintmax_t size = entry.file_size(gone);
    if (!gone) bytes += size;
  }
  return bytes;
}

TensorFrame Velocity(std::size_t bytes) {
  auto data = std::make_shared<std::vector<float>>(bytes / 4, 1.0F);
  return {{"velocity", DType::kF32, {static_cast<std::int64_t>(bytes / 4)}, std::as_bytes(std::span(*data))}, data};
}

TEST(AnswerEviction, DropsTheOldestSegmentsAndKeepsTheRest) {
  TempFolder folder;
  const auto table = OpenTable(folder.path());
  Fill(*table, 0, 200);  // 12.5 MiB
  const auto kept = table->totals();
  EXPECT_LE(kept.bytes, kLimit);
  EXPECT_GT(kept.bytes, kLimit - 2 * kSegment) << "not more than it must";
  EXPECT_EQ(kept.entries + kept.evicted, 200);
  const int oldest = static_cast<int>(kept.evicted);
  EXPECT_FALSE(table->Has(Key(oldest - 1)));
  for (int i = oldest; i < 200; ++i) EXPECT_TRUE(table->Has(Key(i))) << i;
}

TEST(AnswerEviction, KeepsToItsBoundOnDiskAtEveryMoment) {
  TempFolder folder;
  const auto table = OpenTable(folder.path());
  for (int i = 0; i < 160; i += 4) {
    Fill(*table, i, i + 4);
    table->Flush();
    ASSERT_LT(BytesOnDisk(folder.path()), static_cast<std::uintmax_t>(kLimit + kSegment + (4 << 20))) << i;
  }
}

TEST(AnswerEviction, KeepsAtLeastTheLastValueWhateverItsSize) {
  TempFolder folder;
  const auto table = OpenTable(folder.path());
  for (int i = 0; i < 3; ++i) table->Put(Key(i), std::string(2 * kLimit, 'x'));
  EXPECT_FALSE(table->Has(Key(1)));
  EXPECT_TRUE(table->Has(Key(2)));
  EXPECT_EQ(table->totals().entries, 1);
}

TEST(AnswerEviction, TellsWhatWasEvictedFromWhatWasLost) {
  TempFolder folder;
  {
    const auto table = OpenTable(folder.path());
    Fill(*table, 0, 4);
    table->Record(Place(1000), Key(1000));  // its answer never came to the disk
    Fill(*table, 4, 100);
    table->Remove(Key(99));
    table->Flush();
    const Counts counts = CountPlaces(*table);
    EXPECT_EQ(counts.lost, 2);
    EXPECT_GT(counts.evicted, 0);
    EXPECT_EQ(counts.there + counts.evicted, 99);
  }
  const auto again = AnswerTable::OpenToRead(folder.path());
  EXPECT_EQ(CountPlaces(*again).lost, 2);
  EXPECT_EQ(CountPlaces(*again).there + CountPlaces(*again).evicted, 99);
}

TEST(AnswerEviction, APlaceWhoseEvictedAnswerCameAgainIsThere) {
  TempFolder folder;
  const auto table = OpenTable(folder.path());
  Fill(*table, 0, 100);
  ASSERT_FALSE(table->Has(Key(0)));
  const Counts before = CountPlaces(*table);
  const auto evicted = table->totals().evicted;
  table->Put(Key(0), Value(0));
  EXPECT_EQ(CountPlaces(*table).there, before.there + 1 - (table->totals().evicted - evicted));
}

TEST(AnswerEviction, FindsEverythingAfterReopeningAndGoesOnWithTheSameSegments) {
  TempFolder folder;
  AnswerTable::Totals before;
  {
    const auto table = OpenTable(folder.path());
    Fill(*table, 0, 90);
    before = table->totals();
  }
  const auto table = OpenTable(folder.path());
  EXPECT_EQ(table->totals().entries, before.entries);
  EXPECT_EQ(table->totals().bytes, before.bytes);
  std::string value;
  for (int i = static_cast<int>(before.evicted); i < 90; ++i) {
    ASSERT_EQ(table->Get(Key(i), &value), AnswerTable::Found::kYes) << i;
    ASSERT_EQ(value, Value(i));
  }
  Fill(*table, 90, 180);
  EXPECT_LE(table->totals().bytes, kLimit);
  EXPECT_EQ(CountPlaces(*table).lost, 0);
}

TEST(AnswerEviction, RefusesACacheOfTheFormatBefore) {
  TempFolder folder;
  {
    rocksdb::Options options;
    options.create_if_missing = true;
    rocksdb::DB* opened = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(options, folder.path().string(), &opened).ok());
    const std::unique_ptr<rocksdb::DB> db(opened);
    ASSERT_TRUE(db->Put({}, "version", "sgmd-score-cache-1").ok());
  }
  EXPECT_THAT(ErrorOf([&] { OpenTable(folder.path()); }), HasSubstr("remove the folder, or name another one"));
}

// Dies without a destructor, as by kill -9, with the answers [0, 60) flushed and [60, 80) not.
[[noreturn]] void FillAndDie(const std::filesystem::path& folder) {
  const auto table = OpenTable(folder);
  Fill(*table, 0, 60);
  table->Flush();
  Fill(*table, 60, 80);
  std::raise(SIGKILL);
  std::abort();
}

TEST(AnswerEvictionDeathTest, ACrashLosesOnlyWhatWasNotFlushedAndLeavesNoPlaceWithoutItsValue) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // which runs this test again from its beginning, in the child
  constexpr char kFolder[] = "SGMD_TEST_CRASHED_CACHE";
  const bool is_child = std::getenv(kFolder) != nullptr;
  TempFolder folder;
  if (!is_child) ::setenv(kFolder, folder.path().c_str(), 1);
  EXPECT_EXIT(FillAndDie(std::getenv(kFolder)), testing::KilledBySignal(SIGKILL), "");
  ::unsetenv(kFolder);
  const auto table = OpenTable(folder.path());
  const Counts counts = CountPlaces(*table);
  EXPECT_EQ(counts.lost, 0);
  EXPECT_GE(counts.there + counts.evicted, 60);
  EXPECT_EQ(table->totals().entries, counts.there) << "no value without its place either, but for one";
  for (int i = 30; i < 60; ++i) EXPECT_TRUE(table->Has(Key(i))) << i;
}

// The longest of the calls that the broker's loop makes, while `count` answers come.
std::chrono::duration<double> LongestCall(AnswerCache& cache, int count) {
  using Clock = std::chrono::steady_clock;
  const TensorFrame answer = Velocity(kValueBytes);
  Clock::duration longest{};
  const auto time = [&](auto call) {
    const auto start = Clock::now();
    call();
    longest = std::max(longest, Clock::now() - start);
  };
  for (int i = 0; i < count; ++i) {
    time([&] { cache.Lookup(0, Key(i)); });
    time([&] { cache.Store(Key(i), answer); });
    time([&] { cache.Record(Place(i), Key(i)); });
    if (i % 50 == 49) time([&] { cache.RequestSafety(); });
    time([&] { cache.Lookup(0, Key(i / 2)); });
    time([&] { cache.TakeFound(); });
    time([&] { cache.TakeFound(); });
  }
  return longest;
}

TEST(AnswerEviction, KeepsNobodyWaitingWhileItDropsWhatIsOld) {
  TempFolder folder;
  AnswerCache cache(folder.path(), {.limit_gib = static_cast<double>(kLimit) / (1 << 30)});
  std::chrono::duration<double> longest{};
  for (int round = 0; round < 2; ++round) longest = std::max(longest, LongestCall(cache, 120));
  cache.Sync();
  EXPECT_GT(cache.stats().evicted, 50) << "of 120 different ones, into room for 64";
  EXPECT_LT(longest, kAtOnce);
}

TEST(AnswerEviction, KeepsNobodyWaitingForADiskThatIsSlow) {
  TempFolder folder;
  AnswerCache cache(folder.path(), {.limit_gib = static_cast<double>(kLimit) / (1 << 30)});
  {
    const FailpointsHere slow("cache.flush=sleep(1000)");
    EXPECT_LT(LongestCall(cache, 200), kAtOnce);
    const std::uint64_t request = cache.RequestSafety();
    EXPECT_FALSE(cache.IsSafe(request));
  }
  const std::uint64_t request = cache.RequestSafety();
  cache.Sync();
  EXPECT_TRUE(cache.IsSafe(request));
  EXPECT_EQ(cache.stats().lost, 0);
}

TEST(AnswerEviction, IsBehindWhileMoreWaitsThanTheDiskTakes) {
  TempFolder folder;
  AnswerCache cache(folder.path(), {.limit_gib = 1, .writer = {.behind_above = 4 << 20}});
  const FailpointsHere slow("cache.put=sleep(1000)@1");
  const TensorFrame answer = Velocity(1 << 20);
  for (int i = 0; i < 4; ++i) cache.Store(Key(i), answer);
  EXPECT_FALSE(cache.IsBehind());
  for (int i = 4; i < 8; ++i) cache.Store(Key(i), answer);
  EXPECT_TRUE(cache.IsBehind());
  cache.Sync();
  EXPECT_FALSE(cache.IsBehind());
  EXPECT_EQ(cache.stats().lost, 0);
}

TEST(AnswerEviction, ADiskThatDoesNotAnswerStopsNobodyAndCostsWhatIsAboveTheBound) {
  TempFolder folder;
  AnswerCache cache(
      folder.path(),
      {.limit_gib = 1,
       .writer = {.patience = std::chrono::milliseconds(200), .behind_above = 2 << 20, .lost_above = 4 << 20}});
  const FailpointsHere hung("cache.put=sleep(2000)@1");
  const TensorFrame answer = Velocity(1 << 20);
  for (int i = 0; i < 3; ++i) cache.Store(Key(i), answer);
  EXPECT_TRUE(cache.IsBehind());
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_FALSE(cache.IsBehind());
  EXPECT_THAT(cache.stats().problem, HasSubstr("does not answer"));
  for (int i = 3; i < 8; ++i) cache.Store(Key(i), answer);
  EXPECT_EQ(cache.stats().lost, 4);
  EXPECT_FALSE(cache.IsSafe(cache.RequestSafety())) << "a checkpoint waits: it may answer yet";
  cache.Sync();
  EXPECT_EQ(cache.stats().problem, "");
  EXPECT_TRUE(LookedUp(cache, Key(3)));
}

}  // namespace
}  // namespace sgmd
