#include "common/time/awake_clock.h"

#include <gtest/gtest.h>

namespace sgmd {
namespace {

using std::chrono::milliseconds;

TEST(AwakeClockTest, CountsTimeOnlyWhileItIsWatched) {
  AwakeClock clock;
  AwakeClock::Source::time_point now{milliseconds(5000)};
  clock.Tick(now);
  for (int i = 0; i < 30; ++i) clock.Tick(now += milliseconds(100));
  EXPECT_DOUBLE_EQ(clock.Seconds(), 3);
  clock.Tick(now += milliseconds(60'000));  // stopped
  EXPECT_DOUBLE_EQ(clock.Seconds(), 4);
  clock.Tick(now += milliseconds(500));
  EXPECT_DOUBLE_EQ(clock.Seconds(), 4.5);
}

}  // namespace
}  // namespace sgmd
