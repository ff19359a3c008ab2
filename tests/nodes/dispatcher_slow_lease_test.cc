// What the dispatcher does about teachers that are slower than others: second leases, and who gets work first.
#include <gtest/gtest.h>

#include "nodes/broker/dispatcher.h"

namespace sgmd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kAnchor = 1;

class SlowLeaseTest : public testing::Test {
 protected:
  // `teacher` has credit for one and is alone to have it: it gets the next ticket.
  Dispatcher::Lease Give(const std::string& teacher, Dispatcher::Work work = {}) {
    dispatcher_.Add(next_, work);
    dispatcher_.AddCredit(teacher, 1);
    const auto lease = dispatcher_.NextLease(now_);
    EXPECT_TRUE(lease && lease->ticket == next_ && lease->teacher == teacher) << next_;
    ++next_;
    return *lease;
  }
  bool Answer(const Dispatcher::Lease& lease) {
    return dispatcher_.Answer(lease.teacher, lease.ticket, lease.attempt, now_);
  }
  // `teacher` answers as many as it takes to know how long it needs.
  void Measure(const std::string& teacher, Dispatcher::Time::duration each, Dispatcher::Work work = {},
               std::size_t count = RecentDurations::kLeast) {
    for (std::size_t i = 0; i < count; ++i) {
      const Dispatcher::Lease lease = Give(teacher, work);
      now_ += each;
      Answer(lease);
    }
  }
  std::optional<Dispatcher::Lease> Next() { return dispatcher_.NextLease(now_); }

  Dispatcher dispatcher_{seconds(60)};
  Dispatcher::Time now_{};
  std::uint64_t next_ = 0;
};

TEST_F(SlowLeaseTest, GivesASlowLeaseToASecondTeacher) {
  Measure("teacher.0", seconds(1));
  const auto first = Give("teacher.1");
  dispatcher_.AddCredit("teacher.0", 1);
  now_ += milliseconds(2000);
  EXPECT_FALSE(Next()) << "twice the time is not over it";
  now_ += milliseconds(1);
  const auto second = Next();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->ticket, first.ticket);
  EXPECT_EQ(second->teacher, "teacher.0");
  EXPECT_EQ(second->attempt, 2U);
  EXPECT_EQ(dispatcher_.speculated(), 1);
  EXPECT_EQ(dispatcher_.leased(), 1) << "one ticket";
  EXPECT_EQ(dispatcher_.redispatched(), 0);
}

TEST_F(SlowLeaseTest, NeverToTheOneThatHoldsItAndNoThirdTime) {
  Measure("teacher.0", seconds(1));
  Give("teacher.0");
  dispatcher_.AddCredit("teacher.0", 5);
  now_ += seconds(30);
  EXPECT_FALSE(Next());
  dispatcher_.AddCredit("teacher.1", 1);
  EXPECT_TRUE(Next());
  dispatcher_.AddCredit("teacher.2", 1);
  now_ += seconds(20);
  EXPECT_FALSE(Next()) << "two have it";
}

TEST_F(SlowLeaseTest, TheFirstAnswerCountsAndTheOtherIsDropped) {
  Measure("teacher.0", seconds(1));
  const auto first = Give("teacher.1");
  dispatcher_.AddCredit("teacher.0", 1);
  now_ += seconds(3);
  const auto second = Next();
  ASSERT_TRUE(second);
  EXPECT_TRUE(dispatcher_.Holds("teacher.1", first.ticket, first.attempt));
  EXPECT_TRUE(dispatcher_.Holds("teacher.0", second->ticket, second->attempt));
  EXPECT_TRUE(Answer(first)) << "the slow one was first after all";
  EXPECT_FALSE(Answer(*second));
  EXPECT_EQ(dispatcher_.dropped(), 1);
  EXPECT_EQ(dispatcher_.leased(), 0);
}

TEST_F(SlowLeaseTest, ASlowTeacherHoldsOneLeaseAtATimeUntilItAnswersInTime) {
  Measure("teacher.0", seconds(1));
  Measure("teacher.1", seconds(10));
  const auto slow = Give("teacher.1");
  dispatcher_.AddCredit("teacher.0", 1);
  now_ += seconds(3);
  const auto second = Next();
  ASSERT_TRUE(second);
  now_ += seconds(1);
  Answer(*second);
  dispatcher_.AddCredit("teacher.1", 5);
  dispatcher_.Add(next_++);
  EXPECT_FALSE(Next()) << "it still computes what another has answered";
  now_ += seconds(6);
  EXPECT_FALSE(Answer(slow)) << "late: it stays slow";
  const auto next = Next();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->teacher, "teacher.1");
  dispatcher_.Add(next_++);
  EXPECT_FALSE(Next()) << "not a second one";
  now_ += seconds(1);
  Answer(*next);
  EXPECT_TRUE(Next());
  dispatcher_.Add(next_++);
  EXPECT_TRUE(Next()) << "it was in time, and may have two again";
}

TEST_F(SlowLeaseTest, ASlowTeacherIsNeverTheSecondOne) {
  Measure("teacher.0", seconds(1));
  Give("teacher.1");
  const auto other = Give("teacher.2");
  now_ += seconds(3);
  dispatcher_.AddCredit("teacher.0", 1);
  ASSERT_TRUE(Next()) << "of teacher.1's";
  Answer(other);
  Give("teacher.2");
  now_ += seconds(3);
  dispatcher_.AddCredit("teacher.1", 1);
  EXPECT_FALSE(Next());
}

TEST_F(SlowLeaseTest, ATeacherThatIsAlwaysSlowIsNoMeasureOfItself) {
  Measure("teacher.0", seconds(1));
  Measure("teacher.1", seconds(10), {}, RecentDurations::kWindow);
  Give("teacher.1");
  dispatcher_.AddCredit("teacher.0", 1);
  now_ += seconds(3);
  EXPECT_TRUE(Next());
}

TEST_F(SlowLeaseTest, KnowsNothingOfSlownessBeforeEnoughAnswers) {
  Measure("teacher.0", seconds(1), {}, RecentDurations::kLeast - 1);
  Give("teacher.1");
  dispatcher_.AddCredit("teacher.0", 1);
  now_ += seconds(59);
  EXPECT_FALSE(Next());
}

TEST_F(SlowLeaseTest, HoldsEveryKindOfWorkAgainstItsOwn) {
  Measure("teacher.0", seconds(1));
  Measure("teacher.0", seconds(5), {5, kAnchor});
  Give("teacher.1", {5, kAnchor});
  dispatcher_.AddCredit("teacher.0", 1);
  now_ += seconds(9);
  EXPECT_FALSE(Next()) << "slow for a score, not for an anchor";
  now_ += seconds(2);
  EXPECT_TRUE(Next());
}

TEST_F(SlowLeaseTest, LeavesQuickWorkAlone) {
  Measure("teacher.0", milliseconds(10));
  Give("teacher.1");
  dispatcher_.AddCredit("teacher.0", 1);
  now_ += Dispatcher::kLeastSlow;
  EXPECT_FALSE(Next());
  now_ += milliseconds(1);
  EXPECT_TRUE(Next());
}

TEST_F(SlowLeaseTest, ATicketThatWaitsInFrontGoesFirst) {
  Measure("teacher.0", seconds(1));
  const std::uint64_t front = next_++;
  Give("teacher.1");
  dispatcher_.Add(front);
  now_ += seconds(3);
  dispatcher_.AddCredit("teacher.0", 2);
  EXPECT_EQ(Next()->ticket, front);
  EXPECT_EQ(Next()->ticket, front + 1) << "then the slow one";
}

TEST_F(SlowLeaseTest, WhenEitherOfTwoHoldersIsGoneTheOtherGoesOn) {
  Measure("teacher.0", seconds(1));
  const auto first = Give("teacher.1");
  dispatcher_.AddCredit("teacher.0", 1);
  now_ += seconds(3);
  ASSERT_TRUE(Next());
  EXPECT_EQ(dispatcher_.Release("teacher.0"), 0) << "nothing waits again";
  EXPECT_EQ(dispatcher_.leased(), 1);
  EXPECT_EQ(dispatcher_.Suspend("teacher.1"), 1);
  EXPECT_EQ(dispatcher_.waiting(), 1);
  EXPECT_TRUE(Answer(first));
}

TEST_F(SlowLeaseTest, AnExpiredLeaseOfTwoMakesItsHolderOverdueAndNothingWaitAgain) {
  Measure("teacher.0", seconds(1));
  Give("teacher.1");
  now_ += seconds(59);
  dispatcher_.AddCredit("teacher.0", 1);
  ASSERT_TRUE(Next());
  now_ += seconds(1);
  EXPECT_EQ(dispatcher_.Expire(now_), std::vector<std::string>{"teacher.1"});
  EXPECT_EQ(dispatcher_.waiting(), 0);
  EXPECT_EQ(dispatcher_.leased(), 1);
}

TEST_F(SlowLeaseTest, OfTeachersThatHoldEquallyManyTheFastestIsFirst) {
  Measure("teacher.0", seconds(3));
  Measure("teacher.1", seconds(1));
  Measure("teacher.2", seconds(2));
  for (const char* name : {"teacher.0", "teacher.1", "teacher.2"}) dispatcher_.AddCredit(name, 2);
  for (int i = 0; i < 4; ++i) dispatcher_.Add(next_++);
  for (const char* name : {"teacher.1", "teacher.2", "teacher.0", "teacher.1"}) EXPECT_EQ(Next()->teacher, name);
}

TEST_F(SlowLeaseTest, OneThatWasNotMeasuredComesBeforeThoseThatWere) {
  Measure("teacher.0", seconds(1));
  dispatcher_.AddCredit("teacher.0", 1);
  dispatcher_.AddCredit("teacher.7", 1);
  dispatcher_.Add(next_);
  EXPECT_EQ(Next()->teacher, "teacher.7");
}

}  // namespace
}  // namespace sgmd
