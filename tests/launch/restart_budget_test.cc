#include "launch/run/restart_budget.h"

#include <gtest/gtest.h>

namespace sgmd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class RestartBudgetTest : public testing::Test {
 protected:
  // Milliseconds to wait after an end of `process` at `second`; -1 when it has ended too often.
  long DelayAt(const std::string& process, double second) {
    const auto attempt = budget_.OnEnd(process, start_ + std::chrono::duration_cast<RestartBudget::Clock::duration>(
                                                             std::chrono::duration<double>(second)));
    return attempt ? attempt->delay.count() : -1;
  }
  const RestartBudget::Clock::time_point start_ = RestartBudget::Clock::now();
  RestartBudget budget_{{.attempts = 4,
                         .window_seconds = 100,
                         .first_delay_seconds = 0.5,
                         .longest_delay_seconds = 2,
                         .stall_seconds = 10}};
};

TEST_F(RestartBudgetTest, DoublesThePauseUpToTheLongestAndRefusesAfterTheAttempts) {
  EXPECT_EQ(DelayAt("broker", 0), 500);
  EXPECT_EQ(DelayAt("broker", 1), 1000);
  EXPECT_EQ(DelayAt("broker", 2), 2000);
  EXPECT_EQ(DelayAt("broker", 3), 2000);
  EXPECT_EQ(DelayAt("broker", 4), -1);
}

TEST_F(RestartBudgetTest, CountsOnlyTheEndsWithinTheWindow) {
  for (int i = 0; i < 50; ++i) EXPECT_EQ(DelayAt("teacher.1", 101.0 * i), 500) << "of a run of weeks";
  EXPECT_EQ(DelayAt("teacher.1", 101.0 * 49 + 1), 1000);
}

TEST_F(RestartBudgetTest, CountsEachProcessByItself) {
  for (int i = 0; i < 5; ++i) DelayAt("teacher.0", i);
  EXPECT_EQ(DelayAt("teacher.0", 6), -1);
  EXPECT_EQ(DelayAt("teacher.1", 6), 500);
}

TEST_F(RestartBudgetTest, NumbersTheAttempts) {
  EXPECT_EQ(budget_.OnEnd("broker")->number, 1);
  EXPECT_EQ(budget_.OnEnd("broker")->number, 2);
}

TEST(RestartBudget, WithoutAttemptsRefusesAtOnce) { EXPECT_FALSE(RestartBudget({.attempts = 0}).OnEnd("broker")); }

}  // namespace
}  // namespace sgmd
