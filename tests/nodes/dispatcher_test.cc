#include "nodes/broker/dispatcher.h"

#include <gtest/gtest.h>

namespace sgmd {
namespace {

using std::chrono::seconds;

class DispatcherTest : public testing::Test {
 protected:
  Dispatcher dispatcher_{seconds(10)};
  Dispatcher::Time start_{};
};

TEST_F(DispatcherTest, ServesTicketsInAscendingOrder) {
  dispatcher_.Add(2);
  dispatcher_.Add(1);
  dispatcher_.AddCredit("teacher.0", 2);
  EXPECT_EQ(dispatcher_.NextLease(start_)->ticket, 1U);
  EXPECT_EQ(dispatcher_.NextLease(start_)->ticket, 2U);
}

TEST_F(DispatcherTest, NeverExceedsCredit) {
  for (int ticket = 0; ticket < 5; ++ticket) dispatcher_.Add(ticket);
  dispatcher_.AddCredit("teacher.0", 2);
  EXPECT_TRUE(dispatcher_.NextLease(start_));
  EXPECT_TRUE(dispatcher_.NextLease(start_));
  EXPECT_FALSE(dispatcher_.NextLease(start_));
  dispatcher_.AddCredit("teacher.0", 1);
  EXPECT_TRUE(dispatcher_.NextLease(start_));
}

TEST_F(DispatcherTest, SharesWorkBetweenTeachersWithCredit) {
  dispatcher_.Add(1);
  dispatcher_.Add(2);
  dispatcher_.AddCredit("teacher.0", 2);
  dispatcher_.AddCredit("teacher.1", 2);
  EXPECT_NE(dispatcher_.NextLease(start_)->teacher, dispatcher_.NextLease(start_)->teacher);
}

TEST_F(DispatcherTest, ReleasesLeaseWhenTeacherDies) {
  dispatcher_.Add(1);
  dispatcher_.AddCredit("teacher.0", 2);
  EXPECT_EQ(dispatcher_.NextLease(start_)->attempt, 1U);
  EXPECT_EQ(dispatcher_.Release("teacher.0"), 1);
  EXPECT_FALSE(dispatcher_.NextLease(start_)) << "a dead teacher has no credit";
  dispatcher_.AddCredit("teacher.1", 1);
  const auto lease = dispatcher_.NextLease(start_);
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->teacher, "teacher.1");
  EXPECT_EQ(lease->attempt, 2U);
  EXPECT_EQ(dispatcher_.redispatched(), 1);
}

TEST_F(DispatcherTest, ReDispatchesExpiredLease) {
  dispatcher_.Add(1);
  dispatcher_.AddCredit("teacher.0", 1);
  dispatcher_.NextLease(start_);
  EXPECT_EQ(dispatcher_.Expire(start_ + seconds(9)), 0);
  EXPECT_EQ(dispatcher_.Expire(start_ + seconds(10)), 1);
  EXPECT_EQ(dispatcher_.waiting(), 1);
}

TEST_F(DispatcherTest, GivesCostlyWorkAsManyTimesAsLong) {
  dispatcher_.Add(1, 5);
  dispatcher_.AddCredit("teacher.0", 1);
  dispatcher_.NextLease(start_);
  EXPECT_EQ(dispatcher_.Expire(start_ + seconds(49)), 0);
  EXPECT_EQ(dispatcher_.Expire(start_ + seconds(50)), 1);
}

TEST_F(DispatcherTest, DropsSecondAnswer) {
  dispatcher_.Add(1);
  dispatcher_.AddCredit("teacher.0", 1);
  dispatcher_.NextLease(start_);
  EXPECT_TRUE(dispatcher_.Accept(1));
  EXPECT_FALSE(dispatcher_.Accept(1));
  EXPECT_EQ(dispatcher_.dropped(), 1);
  EXPECT_EQ(dispatcher_.leased(), 0);
}

TEST_F(DispatcherTest, TakesTheLateAnswerOfAnExpiredLease) {
  dispatcher_.Add(1);
  dispatcher_.AddCredit("teacher.0", 1);
  dispatcher_.NextLease(start_);
  dispatcher_.Expire(start_ + seconds(10));
  EXPECT_TRUE(dispatcher_.Accept(1));
  EXPECT_EQ(dispatcher_.waiting(), 0);
}

TEST_F(DispatcherTest, GivesASuspendedTeacherNothingUntilItIsBack) {
  dispatcher_.Add(1);
  dispatcher_.AddCredit("teacher.0", 2);
  dispatcher_.NextLease(start_);
  EXPECT_EQ(dispatcher_.Suspend("teacher.0"), 1);
  EXPECT_FALSE(dispatcher_.NextLease(start_));
  dispatcher_.Resume("teacher.0");
  EXPECT_TRUE(dispatcher_.NextLease(start_));
}

}  // namespace
}  // namespace sgmd
