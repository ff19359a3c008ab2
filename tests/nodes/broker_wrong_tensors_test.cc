// The broker when what it is sent cannot be right: scores of another shape, dtype or lease, and numbers that are none.
#include <cmath>
#include <limits>

#include "tests/nodes/broker_fixture.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

class BrokerWrongTensorsTest : public BrokerFixture {};

TEST_F(BrokerWrongTensorsTest, SendsATeacherWithMisshapenScoresAway) {
  Start();
  const auto generator = Join("generator"), bad = Join("teacher.0");
  bad->Send(Credit(1));
  generator->Send(Sample(0));
  const auto lease = bad->Receive(kSoon);
  ASSERT_TRUE(lease);
  bad->Send(ScoreFor(*lease, {2, 1}));
  EXPECT_THAT(ErrorOf([&] { bad->Receive(kSoon); }), HasSubstr("shape"));
  const auto good = Join("teacher.1");
  good->Send(Credit(1));
  EXPECT_TRUE(good->Receive(kSoon));
}

TEST_F(BrokerWrongTensorsTest, SendsATeacherAwayWhoseScoreHasAnotherDtypeThanTheExperimentsScores) {
  plan_.experiment.precision.scores = Compute::kBfloat16;
  run_id_ = ExperimentDigest(plan_.experiment);
  Start();
  const auto generator = Join("generator"), bad = Join("teacher.0");
  bad->Send(Credit(1));
  generator->Send(Sample(0));
  const auto lease = bad->Receive(kSoon);
  ASSERT_TRUE(lease);
  bad->Send(ScoreFor(*lease));
  EXPECT_THAT(ErrorOf([&] { bad->Receive(kSoon); }), HasSubstr("does not have the dtype of the experiment's scores"));
}

TEST_F(BrokerWrongTensorsTest, SendsATeacherAwayWhoseScoreIsNoNumberAndKeepsNothingOfIt) {
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score"), bad = Join("teacher.0");
  bad->Send(Credit(1));
  generator->Send(Sample(0));
  const auto lease = bad->Receive(kSoon);
  ASSERT_TRUE(lease);
  bad->Send(ScoreFor(*lease, {1, 2}, std::nanf("")));
  EXPECT_THAT(ErrorOf([&] { bad->Receive(kSoon); }), HasSubstr("score of step 0, micro-batch 0 holds an infinite"));
  const auto good = Join("teacher.1");
  good->Send(Credit(2));
  const auto again = good->Receive(kSoon);
  ASSERT_TRUE(again);
  good->Send(ScoreFor(*again));
  const auto scored = fake->Receive(kSoon);
  ASSERT_TRUE(scored);
  EXPECT_EQ(First(FromEnvelope<message::ScoredSample>(*scored).velocity), 9);
  EXPECT_TRUE(StatusBecomes([](const nlohmann::json& s) { return s["cache"]["entries"] == 1; }));
}

TEST_F(BrokerWrongTensorsTest, ASecondProcessThatFindsNoFiniteScoreFailsTheRun) {
  Start();
  const auto generator = Join("generator");
  generator->Send(Sample(3));
  for (const char* name : {"teacher.0", "teacher.1"}) {
    const auto teacher = Join(name);
    teacher->Send(Credit(1));
    const auto lease = teacher->Receive(kSoon);
    ASSERT_TRUE(lease);
    teacher->Send(ScoreFor(*lease, {1, 2}, std::numeric_limits<float>::infinity()));
    EXPECT_FALSE(ErrorOf([&] { teacher->Receive(kSoon); }).empty());
  }
  EXPECT_THAT(ErrorOf([&] { generator->Receive(kSoon); }),
              HasSubstr("the score of step 3, micro-batch 0 is not finite: two processes found that"));
  Wait();
  EXPECT_EQ(exit_code_, 1);
}

TEST_F(BrokerWrongTensorsTest, SendsATeacherAwayThatAnswersALeaseOfAnother) {
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score"), holder = Join("teacher.0");
  const auto stranger = Join("teacher.1");
  holder->Send(Credit(1));
  generator->Send(Sample(0));
  const auto lease = holder->Receive(kSoon);
  ASSERT_TRUE(lease);
  stranger->Send(ScoreFor(*lease, {1, 2}, 4));
  EXPECT_THAT(ErrorOf([&] { stranger->Receive(kSoon); }), HasSubstr("was not given the score"));
  holder->Send(ScoreFor(*lease));
  const auto scored = fake->Receive(kSoon);
  ASSERT_TRUE(scored);
  EXPECT_EQ(First(FromEnvelope<message::ScoredSample>(*scored).velocity), 9);
}

TEST_F(BrokerWrongTensorsTest, ASampleThatIsNotFiniteFailsTheRunWithItsName) {
  Start();
  const auto generator = Join("generator");
  generator->Send(Sample(2, std::numeric_limits<float>::infinity()));
  EXPECT_THAT(ErrorOf([&] { generator->Receive(kSoon); }),
              HasSubstr("the Sample of step 2, micro-batch 0 is not finite: x_g"));
  Wait();
  EXPECT_EQ(exit_code_, 1);
}

}  // namespace
}  // namespace sgmd
