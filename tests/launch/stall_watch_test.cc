#include "launch/run/stall_watch.h"

#include <gtest/gtest.h>

namespace sgmd {
namespace {

constexpr char kStalled[] =
    R"({"nodes": [{"name": "fake_score", "state": "stalled", "stalled": true, "idle_seconds": 12.2}]})";
constexpr char kWell[] = R"({"nodes": [{"name": "fake_score", "state": "working", "stalled": false}]})";

TEST(StallWatch, NamesAProcessAtTheThirdStatusInARowAndOnce) {
  StallWatch watch;
  EXPECT_TRUE(watch.OnStatus(kStalled).empty());
  EXPECT_TRUE(watch.OnStatus(kStalled).empty());
  const auto stalled = watch.OnStatus(kStalled);
  ASSERT_EQ(stalled.size(), 1U);
  EXPECT_EQ(stalled[0].name, "fake_score");
  EXPECT_EQ(stalled[0].why, "made no progress for 12 s while it worked");
  EXPECT_TRUE(watch.OnStatus(kStalled).empty());
}

TEST(StallWatch, BeginsAnewWhenTheProcessIsWellInBetween) {
  StallWatch watch;
  for (const char* status : {kStalled, kStalled, kWell, kStalled, kStalled})
    EXPECT_TRUE(watch.OnStatus(status).empty());
  EXPECT_EQ(watch.OnStatus(kStalled).size(), 1U);
}

TEST(StallWatch, TellsSilenceFromWork) {
  StallWatch watch;
  const char* silent =
      R"({"nodes": [{"name": "teacher.0", "state": "silent", "stalled": true, "silent_seconds": 16}]})";
  for (int i = 0; i < 2; ++i) watch.OnStatus(silent);
  EXPECT_EQ(watch.OnStatus(silent).at(0).why, "gave no sign of life for 16 s");
}

}  // namespace
}  // namespace sgmd
