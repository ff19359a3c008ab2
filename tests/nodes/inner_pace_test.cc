// What the fake score does next at a free pace, and how that is recorded and followed.
#include "nodes/fake_score/inner_pace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/storage/atomic_folder.h"
#include "nodes/fake_score/pace_record.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

PaceEvent Update(std::int64_t newest) { return {PaceEvent::Kind::kUpdate, newest}; }
PaceEvent Gradient(std::int64_t index) { return {PaceEvent::Kind::kGradient, index}; }

TEST(InnerPace, AGradientComesBeforeAnUpdate) {
  const InnerPace pace{2, 0, 4};
  EXPECT_EQ(pace.Next({1, 7, 0, 0}), Gradient(1));
  EXPECT_EQ(pace.Next({1, 7, 1, 9}), Gradient(1));
}

TEST(InnerPace, LearnsWhileItWaitsForScoresAndNotMoreThanItMay) {
  const InnerPace pace{2, 0, 4};
  EXPECT_EQ(pace.Next({{}, 7, 1, 3}), Update(7));
  EXPECT_EQ(pace.Next({{}, 7, 1, 4}), std::nullopt);
  EXPECT_EQ(pace.Next({{}, {}, 0, 0}), std::nullopt) << "there is nothing to learn from";
}

TEST(InnerPace, WhatComesAfterTheLastGradientThatCountsIsLeft) {
  const InnerPace pace{2, 1, 4};
  EXPECT_FALSE(pace.Over({0, 7, 2, 0}));
  EXPECT_EQ(pace.Next({0, 7, 2, 0}), Update(7)) << "fewest are 1";
  EXPECT_TRUE(pace.Over({0, 7, 2, 1}));
}

class PaceRecordTest : public testing::Test {
 protected:
  std::filesystem::path file() const { return folder_ / "pace"; }
  static void Do(PaceRecord& record, const PaceRecord::Events& events) {
    for (const PaceEvent& event : events) record.Did(event);
    record.FinishStep();
  }
  TempFolder folder_;
};

TEST_F(PaceRecordTest, IsFollowedEventByEvent) {
  {
    PaceRecord record(file(), folder_ / "none", 0);
    EXPECT_FALSE(record.follows());
    Do(record, {Update(0), Gradient(2), Update(0), Gradient(1)});
    Do(record, {Gradient(0)});
  }
  EXPECT_EQ(ReadFile(file()), "0: u0 g2 u0 g1\n1: g0\n");
  PaceRecord again(folder_ / "again", file(), 0);
  ASSERT_TRUE(again.follows());
  for (const PaceEvent& event : {Update(0), Gradient(2), Update(0), Gradient(1)}) {
    EXPECT_FALSE(again.Over());
    EXPECT_EQ(again.Next(), event);
    again.Did(event);
  }
  EXPECT_TRUE(again.Over());
  again.FinishStep();
  EXPECT_EQ(again.Next(), Gradient(0));
  again.Did(Gradient(0));
  again.FinishStep();
  EXPECT_EQ(again.Next(), std::nullopt);
  EXPECT_FALSE(again.Over()) << "a step that the record does not have never ends";
  EXPECT_EQ(ReadFile(folder_ / "again"), ReadFile(file()));
}

TEST_F(PaceRecordTest, StepsThatAreDoneAnewAreRecordedAnew) {
  WriteFileAtomically(file(), "0: g0\n1: g0\n2: u1 g0\n3: u2");
  PaceRecord record(file(), folder_ / "none", 2);
  EXPECT_EQ(ReadFile(file()), "0: g0\n1: g0\n");
  Do(record, {Gradient(0), Update(2)});
  EXPECT_EQ(ReadFile(file()), "0: g0\n1: g0\n2: g0 u2\n");
}

TEST_F(PaceRecordTest, WhatIsNoOrderIsRefusedWithItsLine) {
  for (const char* line : {"0 g0", "x: g0", "0: h1", "0: g", "0: g-1", "0: u1x", "-1: u0"}) {
    WriteFileAtomically(file(), std::string(line) + "\n");
    EXPECT_THAT(ErrorOf([&] { PaceRecord(file(), folder_ / "none", 0); }), HasSubstr(line));
  }
}

}  // namespace
}  // namespace sgmd
