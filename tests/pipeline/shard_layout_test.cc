#include "pipeline/parallel/shard_layout.h"

#include <gtest/gtest.h>

namespace sgmd {
namespace {

TEST(ShardLayout, UnitsAreBlocksAndWhatIsOutsideOfThem) {
  const auto units = LayOut({{"stem.weight", {3, 4}, "a"},
                             {"blocks.0.x", {5}, "a"},
                             {"blocks.0.y", {2}, "b"},
                             {"blocks.10.x", {5}, "a"},
                             {"head", {7}, "a"}});
  ASSERT_EQ(units.size(), 3U);
  EXPECT_EQ(units[0].prefix, "");
  EXPECT_EQ(units[1].prefix, "blocks.0.");
  EXPECT_EQ(units[2].prefix, "blocks.10.");
  ASSERT_EQ(units[0].segments.size(), 1U);
  EXPECT_EQ(units[0].segments[0].count, 19);
  EXPECT_EQ(units[0].segments[0].entries[1].offset, 12);
  ASSERT_EQ(units[1].segments.size(), 2U);
  EXPECT_EQ(units[1].segments[1].entries[0].name, "blocks.0.y");
}

TEST(ShardLayout, ShardsAreWholeGrainsAndHoldEverythingOnce) {
  for (const std::int64_t count : {std::int64_t{1}, kGrain, kGrain + 1, 10 * kGrain - 3}) {
    for (const int ranks : {1, 2, 3, 4, 7}) {
      ShardSegment segment;
      segment.count = count;
      const ShardEntry entry{"x", {count}, 0, count};
      const std::int64_t size = segment.ShardSize(ranks);
      EXPECT_EQ(size % kGrain, 0);
      std::int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const auto [offset, length] = entry.Within(rank * size, size);
        if (length == 0) continue;
        EXPECT_EQ(offset, next);
        next += length;
      }
      EXPECT_EQ(next, count) << count << " among " << ranks;
    }
  }
}

TEST(ShardLayout, AnEntryIsCutWhereTheShardEnds) {
  const ShardEntry entry{"x", {10}, 100, 10};
  EXPECT_EQ(entry.Within(0, 100).count, 0);
  EXPECT_EQ(entry.Within(0, 104).count, 4);
  EXPECT_EQ(entry.Within(104, 100).offset, 4);
  EXPECT_EQ(entry.Within(104, 100).count, 6);
  EXPECT_EQ(entry.Within(110, 100).count, 0);
}

}  // namespace
}  // namespace sgmd
