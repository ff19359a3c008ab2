#include "nodes/broker/dispatcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace sgmd {
namespace {

using std::chrono::seconds;

class DispatcherTest : public testing::Test {
 protected:
  void Lease(std::uint64_t ticket, const std::string& teacher) {
    dispatcher_.Add(ticket);
    dispatcher_.AddCredit(teacher, 1);
    ASSERT_EQ(dispatcher_.NextLease(start_)->teacher, teacher);
  }

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

TEST_F(DispatcherTest, SetsATicketAsideUntilItIsWantedOrFilled) {
  EXPECT_TRUE(dispatcher_.Add(1, {}, /*wanted=*/false));
  EXPECT_TRUE(dispatcher_.Add(2, {}, /*wanted=*/false));
  EXPECT_FALSE(dispatcher_.Add(1)) << "it is here";
  dispatcher_.AddCredit("teacher.0", 2);
  EXPECT_FALSE(dispatcher_.NextLease(start_));
  EXPECT_EQ(dispatcher_.waiting() + dispatcher_.leased(), 0);
  dispatcher_.Want(1);
  EXPECT_EQ(dispatcher_.NextLease(start_)->ticket, 1U);
  EXPECT_TRUE(dispatcher_.Fill(2));
  dispatcher_.Want(2);
  EXPECT_FALSE(dispatcher_.NextLease(start_)) << "it is scored";
  EXPECT_EQ(dispatcher_.leased(), 1);
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
  Lease(1, "teacher.0");
  EXPECT_TRUE(dispatcher_.Expire(start_ + seconds(9)).empty());
  EXPECT_EQ(dispatcher_.Expire(start_ + seconds(10)), std::vector<std::string>{"teacher.0"});
  EXPECT_EQ(dispatcher_.waiting(), 1);
}

TEST_F(DispatcherTest, GivesCostlyWorkAsManyTimesAsLong) {
  dispatcher_.Add(1, {.cost = 5});
  dispatcher_.AddCredit("teacher.0", 1);
  dispatcher_.NextLease(start_);
  EXPECT_TRUE(dispatcher_.Expire(start_ + seconds(49)).empty());
  EXPECT_EQ(dispatcher_.Expire(start_ + seconds(50)).size(), 1U);
}

TEST_F(DispatcherTest, AddsATicketOnceWhateverItsState) {
  EXPECT_TRUE(dispatcher_.Add(1));
  EXPECT_FALSE(dispatcher_.Add(1)) << "waiting";
  dispatcher_.AddCredit("teacher.0", 1);
  dispatcher_.NextLease(start_);
  EXPECT_FALSE(dispatcher_.Add(1)) << "leased";
  dispatcher_.Fill(1);
  EXPECT_FALSE(dispatcher_.Add(1)) << "scored";
}

TEST_F(DispatcherTest, DropsSecondAnswer) {
  Lease(1, "teacher.0");
  EXPECT_TRUE(dispatcher_.Fill(1));
  EXPECT_FALSE(dispatcher_.Fill(1));
  EXPECT_FALSE(dispatcher_.Fill(7)) << "there never was such a ticket";
  EXPECT_EQ(dispatcher_.dropped(), 2);
  EXPECT_EQ(dispatcher_.leased(), 0);
}

TEST_F(DispatcherTest, FillsAWaitingTicketFromTheStore) {
  dispatcher_.Add(1);
  EXPECT_TRUE(dispatcher_.Fill(1));
  EXPECT_EQ(dispatcher_.waiting(), 0);
}

TEST_F(DispatcherTest, TakesTheLateAnswerOfAnExpiredLease) {
  Lease(1, "teacher.0");
  dispatcher_.Expire(start_ + seconds(10));
  EXPECT_TRUE(dispatcher_.Holds("teacher.0", 1, 1));
  EXPECT_TRUE(dispatcher_.Fill(1));
  EXPECT_EQ(dispatcher_.waiting(), 0);
}

TEST_F(DispatcherTest, KnowsEveryHolderOfAnOpenTicketByItsAttempt) {
  Lease(1, "teacher.0");
  EXPECT_FALSE(dispatcher_.Holds("teacher.1", 1, 1)) << "another's";
  EXPECT_FALSE(dispatcher_.Holds("teacher.0", 1, 2)) << "never given";
  EXPECT_FALSE(dispatcher_.Holds("teacher.0", 1, 0));
  EXPECT_FALSE(dispatcher_.Holds("teacher.0", 2, 1)) << "no such ticket";
  dispatcher_.Expire(start_ + seconds(10));
  dispatcher_.AddCredit("teacher.1", 1);
  ASSERT_EQ(dispatcher_.NextLease(start_)->teacher, "teacher.1");
  EXPECT_TRUE(dispatcher_.Holds("teacher.0", 1, 1)) << "a late answer counts";
  EXPECT_TRUE(dispatcher_.Holds("teacher.1", 1, 2));
  dispatcher_.Release("teacher.0");
  EXPECT_FALSE(dispatcher_.Holds("teacher.0", 1, 1)) << "its next process was given nothing";
  EXPECT_TRUE(dispatcher_.Holds("teacher.1", 1, 2));
  dispatcher_.Fill(1);
  EXPECT_FALSE(dispatcher_.Holds("teacher.1", 1, 2)) << "scored";
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

TEST_F(DispatcherTest, AnExpiredLeaseGoesToAnotherTeacherWhileOneIsIdle) {
  dispatcher_.Add(1);
  dispatcher_.AddCredit("teacher.0", 5);
  ASSERT_TRUE(dispatcher_.NextLease(start_));
  dispatcher_.Expire(start_ + seconds(10));
  EXPECT_FALSE(dispatcher_.NextLease(start_)) << "not to who let it expire";
  dispatcher_.AddCredit("teacher.1", 1);
  EXPECT_EQ(dispatcher_.NextLease(start_)->teacher, "teacher.1");
}

TEST_F(DispatcherTest, AnOverdueTeacherKeepsItsOtherLeases) {
  dispatcher_.Add(1);
  dispatcher_.Add(2);
  dispatcher_.AddCredit("teacher.0", 2);
  dispatcher_.NextLease(start_);
  dispatcher_.NextLease(start_ + seconds(5));
  EXPECT_EQ(dispatcher_.Expire(start_ + seconds(10)).size(), 1U);
  EXPECT_EQ(dispatcher_.leased(), 1);
}

TEST_F(DispatcherTest, AnOverdueTeacherIsFreeWhenItAnswersOrAsksAndNotWhenItIsMerelyAlive) {
  dispatcher_.Add(1);
  dispatcher_.AddCredit("teacher.0", 5);
  dispatcher_.NextLease(start_);
  dispatcher_.Expire(start_ + seconds(10));
  dispatcher_.Suspend("teacher.0");
  dispatcher_.Resume("teacher.0");
  EXPECT_FALSE(dispatcher_.NextLease(start_)) << "it is alive, and may hang";
  dispatcher_.Heard("teacher.0");
  ASSERT_TRUE(dispatcher_.NextLease(start_));
  dispatcher_.Expire(start_ + seconds(10));
  dispatcher_.AddCredit("teacher.0", 0);
  EXPECT_TRUE(dispatcher_.NextLease(start_));
}

// What the dispatcher should know of its teachers, kept beside it in the plainest way.
struct PlainTeacher {
  int credit = 0;
  bool suspended = false;
  std::set<std::pair<std::uint64_t, std::uint32_t>> leases;
  bool MayBeChosen() const { return credit > 0 && !suspended; }
};

TEST_F(DispatcherTest, ChoosesByTheFewestLeasesWhateverHasHappenedToTheTeachers) {
  std::minstd_rand random(7);
  const auto draw = [&](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  std::map<std::string, PlainTeacher> teachers;
  std::set<std::uint64_t> scored;
  std::uint64_t added = 0;
  for (int round = 0; round < 4000; ++round) {
    const std::string name = "teacher." + std::to_string(draw(12));
    PlainTeacher& teacher = teachers[name];
    const int event = draw(20);
    if (event < 8) dispatcher_.Add(added++);
    if (event >= 6 && event < 12) {
      dispatcher_.AddCredit(name, 1);
      ++teacher.credit;
      teacher.suspended = false;
    }
    if (event >= 12 && event < 18 && !teacher.leases.empty()) {
      const auto [ticket, attempt] = *teacher.leases.begin();
      EXPECT_EQ(dispatcher_.Answer(name, ticket, attempt, start_), scored.insert(ticket).second);
      teacher.leases.erase(teacher.leases.begin());
    }
    if (event == 18) {
      dispatcher_.Suspend(name);
      teacher.suspended = true;
      teacher.leases.clear();
    }
    if (event == 19) {
      dispatcher_.Release(name);
      teacher = {};
    }
    while (const auto lease = dispatcher_.NextLease(start_)) {
      PlainTeacher& chosen = teachers.at(lease->teacher);
      ASSERT_TRUE(chosen.MayBeChosen()) << round;
      for (const auto& [other, plain] : teachers) {
        ASSERT_TRUE(!plain.MayBeChosen() || chosen.leases.size() <= plain.leases.size()) << round << " " << other;
      }
      --chosen.credit;
      ASSERT_TRUE(chosen.leases.insert({lease->ticket, lease->attempt}).second);
    }
    const bool anyone = std::ranges::any_of(teachers, [](const auto& entry) { return entry.second.MayBeChosen(); });
    ASSERT_FALSE(anyone && dispatcher_.waiting() > 0) << round;
  }
  EXPECT_GT(scored.size(), 500U);
}

}  // namespace
}  // namespace sgmd
