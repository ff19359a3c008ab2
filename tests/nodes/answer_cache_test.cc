#include "nodes/broker/answer_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include <cmath>
#include <cstring>
#include <thread>

#include "common/error/error.h"
#include "tests/nodes/looked_up.h"
#include "tests/support/failpoints_here.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

TensorFrame Velocity(std::size_t floats, float value) {
  auto data = std::make_shared<std::vector<float>>(floats, value);
  return {{"velocity", DType::kF32, {static_cast<std::int64_t>(floats)}, std::as_bytes(std::span(*data))}, data};
}

void ExpectHolds(const std::optional<TensorFrame>& frame, std::size_t floats, float value) {
  ASSERT_TRUE(frame);
  ASSERT_EQ(frame->view.shape, std::vector<std::int64_t>{static_cast<std::int64_t>(floats)});
  std::vector<float> read(floats);
  std::memcpy(read.data(), frame->view.bytes.data(), frame->view.bytes.size());
  EXPECT_EQ(read, std::vector<float>(floats, value));
}

TEST(AnswerCache, HitsWhatWasStoredAlsoAfterReopening) {
  TempFolder folder;
  {
    AnswerCache cache(folder.path(), {.limit_gib = 1.0});
    EXPECT_FALSE(LookedUp(cache, {1, 1}));
    cache.Store({1, 1}, Velocity(1000, 2.5F));
    cache.Sync();
    ExpectHolds(LookedUp(cache, {1, 1}), 1000, 2.5F);
  }
  AnswerCache cache(folder.path(), {.limit_gib = 1.0});
  ExpectHolds(LookedUp(cache, {1, 1}), 1000, 2.5F);
  EXPECT_EQ(cache.stats().entries, 1);
  EXPECT_EQ(cache.stats().hits, 1);
}

TEST(AnswerCache, DeletesACorruptEntryAndReportsItAbsent) {
  TempFolder folder;
  { AnswerCache(folder.path(), {.limit_gib = 1.0}).Store({1, 1}, Velocity(1000, 2.5F)); }
  {
    rocksdb::Options options;
    options.enable_blob_files = true;
    std::vector<std::string> names;
    ASSERT_TRUE(rocksdb::DB::ListColumnFamilies(options, folder.path().string(), &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const std::string& name : names) families.emplace_back(name, options);
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* opened = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(options, folder.path().string(), families, &handles, &opened).ok());
    const std::unique_ptr<rocksdb::DB> db(opened);
    const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator({}, handles.back()));
    it->Seek("s");
    ASSERT_TRUE(it->Valid() && it->key().starts_with("s"));
    std::string value = it->value().ToString();
    value.back() ^= 1;
    ASSERT_TRUE(db->Put({}, handles.back(), it->key(), value).ok());
    for (rocksdb::ColumnFamilyHandle* handle : handles) db->DestroyColumnFamilyHandle(handle);
  }
  AnswerCache cache(folder.path(), {.limit_gib = 1.0});
  EXPECT_FALSE(LookedUp(cache, {1, 1}));
  EXPECT_EQ(cache.stats().corrupt, 1);
  cache.Store({1, 1}, Velocity(1000, 2.5F));
  cache.Sync();
  ExpectHolds(LookedUp(cache, {1, 1}), 1000, 2.5F);
}

TEST(AnswerCache, KeepsTheChecksumThatAnAnswerCameWithAndGivesItBack) {
  TempFolder folder;
  AnswerCache cache(folder.path(), {.limit_gib = 1.0});
  TensorFrame sound = Velocity(1000, 2.5F), damaged = Velocity(1000, 2.5F);
  sound.checksum = Checksum(sound.view.bytes);
  damaged.checksum = *sound.checksum ^ 1;  // its bytes changed after they had been verified
  cache.Store({1, 1}, sound);
  cache.Store({2, 2}, damaged);
  cache.Sync();
  const auto read = LookedUp(cache, {1, 1});
  ASSERT_TRUE(read);
  EXPECT_EQ(read->checksum, sound.checksum);
  EXPECT_FALSE(LookedUp(cache, {2, 2}));
  EXPECT_EQ(cache.stats().corrupt, 1);
}

TEST(AnswerCache, TakesAnEntryThatIsNotFiniteForCorrupt) {
  TempFolder folder;
  AnswerCache cache(folder.path(), {.limit_gib = 1.0});
  cache.Store({1, 1}, Velocity(1000, std::nanf("")));
  cache.Sync();
  EXPECT_FALSE(LookedUp(cache, {1, 1}));
  EXPECT_EQ(cache.stats().corrupt, 1);
}

TEST(AnswerCache, LooksUpWithoutWaitingForTheDiskAndSaysFirstWhatIsNotThere) {
  constexpr std::uint64_t kCount = 3, kAbsent = kCount;
  TempFolder folder;
  AnswerCache cache(folder.path(), {.limit_gib = 1.0});
  for (std::uint64_t i = 0; i < kCount; ++i) cache.Store({1, i}, Velocity(1000, static_cast<float>(i)));
  cache.Sync();
  const FailpointsHere slow("cache.get=sleep(200)");
  const auto start = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; i <= kAbsent; ++i) EXPECT_TRUE(cache.Lookup(i, {1, i}));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(150));
  std::vector<std::uint64_t> order;
  for (std::uint64_t i = 0; i <= kAbsent; ++i) {
    pollfd event{cache.found_event(), POLLIN, 0};
    ASSERT_EQ(::poll(&event, 1, 5000), 1);
    const auto found = cache.TakeFound();
    ASSERT_TRUE(found);
    order.push_back(found->request);
    EXPECT_EQ(found->answer.has_value(), found->request != kAbsent);
    if (found->answer) ExpectHolds(found->answer, 1000, static_cast<float>(found->request));
  }
  // The first may be read before the last is asked for.
  EXPECT_THAT(order, testing::AnyOf(testing::ElementsAre(kAbsent, 0, 1, 2), testing::ElementsAre(0, kAbsent, 1, 2)));
  pollfd event{cache.found_event(), POLLIN, 0};
  EXPECT_EQ(::poll(&event, 1, 0), 0);
  EXPECT_FALSE(cache.TakeFound());
  EXPECT_EQ(cache.stats().hits, static_cast<std::int64_t>(kCount));
  EXPECT_EQ(cache.stats().misses, 1);
}

TEST(AnswerCache, SaysSoWhenTheDiskDoesNotAnswerAReader) {
  TempFolder folder;
  AnswerCache cache(folder.path(), {.limit_gib = 1.0, .writer = {.patience = std::chrono::milliseconds(100)}});
  cache.Store({1, 1}, Velocity(1000, 2.5F));
  cache.Sync();
  const FailpointsHere slow("cache.get=sleep(600)@1");
  ASSERT_TRUE(cache.Lookup(1, {1, 1}));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_THAT(cache.stats().problem, testing::HasSubstr("does not answer"));
  pollfd event{cache.found_event(), POLLIN, 0};
  ASSERT_EQ(::poll(&event, 1, 5000), 1);
  EXPECT_TRUE(cache.TakeFound()->answer);
  EXPECT_EQ(cache.stats().problem, "");
}

TEST(AnswerCache, KnowsWhoseScoresItHolds) {
  TempFolder folder;
  AnswerCache cache(folder.path(), {.limit_gib = 1.0});
  const ScorerFingerprint recorded{{1, 2}, 2.0}, other{{1, 2}, 3.0};
  cache.RecordFingerprint(recorded);
  cache.Sync();
  EXPECT_NO_THROW(cache.RequireFingerprint(recorded));
  try {
    cache.RequireFingerprint(other);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(recorded.Text()));
  }
}

TEST(ScoreKey, ChangesWithEverythingThatDecidesTheScore) {
  const auto lease = [](float sigma, const std::string& prompt, float x) {
    auto text = std::make_shared<std::string>(prompt);
    return std::vector<TensorFrame>{
        Velocity(1, sigma), {{"prompts", DType::kU8, {1, 16}, std::as_bytes(std::span(*text))}, text}, Velocity(4, x)};
  };
  const std::string a(16, 'a'), b(16, 'b');
  const ScorerFingerprint scorer{{1, 2}, 2.0};
  const Digest key = ScoreKey(scorer, lease(0.5F, a, 1));
  EXPECT_EQ(ScoreKey(scorer, lease(0.5F, a, 1)), key);
  ScorerFingerprint low = scorer;
  low.guidance = Guidance(scorer.guidance.high, scorer.guidance.high + 1, 0.9);
  EXPECT_NE(ScoreKey(low, lease(0.5F, a, 1)), key);
  EXPECT_NE(ScoreKey(scorer, lease(0.6F, a, 1)), key);
  EXPECT_NE(ScoreKey(scorer, lease(0.5F, b, 1)), key);
  EXPECT_NE(ScoreKey(scorer, lease(0.5F, a, 2)), key);
  EXPECT_NE(ScoreKey({{1, 3}, 2.0}, lease(0.5F, a, 1)), key);
  EXPECT_NE(ScoreKey({{1, 2}, 2.5}, lease(0.5F, a, 1)), key);
  EXPECT_NE(ScoreKey({{1, 2}, 2.0, "bfloat16"}, lease(0.5F, a, 1)), key);
  const Digest rounded = ScoreKey({{1, 2}, 2.0, "float32", "bfloat16"}, lease(0.5F, a, 1));
  EXPECT_NE(rounded, key);
  EXPECT_NE(rounded, ScoreKey({{1, 2}, 2.0, "bfloat16"}, lease(0.5F, a, 1)));
  std::vector<TensorFrame> with_image = lease(0.5F, a, 1);
  with_image.push_back(Velocity(2, 1));
  EXPECT_NE(ScoreKey(scorer, with_image), key);
}

TEST(AnchorKey, ChangesWithEverythingThatDecidesTheAnchorAndIsNoScoreKey) {
  const auto request = [](char prompt, float z) {
    auto text = std::make_shared<std::string>(16, prompt);
    return std::vector<TensorFrame>{Velocity(4, z),
                                    {{"prompts", DType::kU8, {1, 16}, std::as_bytes(std::span(*text))}, text}};
  };
  const ScorerFingerprint scorer{{1, 2}, 2.0};
  const AnchorSettings settings{5, 30, 5.0};
  const Digest key = AnchorKey(scorer, settings, request('a', 1));
  EXPECT_EQ(AnchorKey(scorer, settings, request('a', 1)), key);
  EXPECT_NE(AnchorKey(scorer, settings, request('b', 1)), key);
  EXPECT_NE(AnchorKey(scorer, settings, request('a', 2)), key);
  EXPECT_NE(AnchorKey(scorer, {6, 30, 5.0}, request('a', 1)), key);
  EXPECT_NE(AnchorKey(scorer, {5, 40, 5.0}, request('a', 1)), key);
  EXPECT_NE(AnchorKey(scorer, {5, 30, 3.0}, request('a', 1)), key);
  EXPECT_NE(AnchorKey({{1, 3}, 2.0}, settings, request('a', 1)), key);
  EXPECT_NE(AnchorKey({{1, 2}, 2.5}, settings, request('a', 1)), key);
  EXPECT_NE(ScoreKey(scorer, request('a', 1)), key);
}

}  // namespace
}  // namespace sgmd
