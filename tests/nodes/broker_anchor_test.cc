// Anchors through the broker: cached, leased and dispatched again as scores are, and apart from them.
#include "tests/nodes/broker_fixture.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

class BrokerAnchorTest : public BrokerFixture {
 protected:
  BrokerAnchorTest() {
    plan_.experiment.diversity.weight = 0.05;
    run_id_ = ExperimentDigest(plan_.experiment);
  }
  static Envelope Request(std::int64_t step, float noise = 1, std::vector<std::int64_t> shape = {1, 2}) {
    return ToEnvelope(message::AnchorRequest{{step, 0}, Floats("", std::move(shape), noise), Prompts()});
  }
  static Envelope AnswerTo(const Envelope& lease, std::vector<std::int64_t> shape = {1, 2}) {
    return ToEnvelope(message::Anchor{
        {lease.step, lease.index}, {lease.request_id, lease.attempt}, 1, Floats("", std::move(shape), 7)});
  }
};

TEST_F(BrokerAnchorTest, ComputesAnAnchorOnceAndServesItFromTheCacheAfterwards) {
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score"), teacher = Join("teacher.0");
  teacher->Send(Credit(4));
  generator->Send(Request(0));
  const auto lease = teacher->Receive(kSoon);
  ASSERT_TRUE(lease && lease->kind == wire::Kind::AnchorLease);
  EXPECT_EQ(lease->tensors.size(), 2U);
  teacher->Send(AnswerTo(*lease));
  const auto first = generator->Receive(kSoon);
  ASSERT_TRUE(first);
  EXPECT_FALSE(FromEnvelope<message::ServedAnchor>(*first).cache_hit);
  EXPECT_EQ(First(FromEnvelope<message::ServedAnchor>(*first).x_a), 7);
  EXPECT_EQ(first->tensors.size(), 1U) << "the generator has the noise";
  ASSERT_TRUE(StatusBecomes([](const nlohmann::json& s) { return s["cache"]["entries"] == 1; }));
  generator->Send(Request(5));
  const auto again = generator->Receive(kSoon);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->step, 5);
  EXPECT_TRUE(FromEnvelope<message::ServedAnchor>(*again).cache_hit);
  EXPECT_EQ(First(FromEnvelope<message::ServedAnchor>(*again).x_a), 7);
  EXPECT_FALSE(fake->Receive(kBriefly)) << "anchors are not its business";
  EXPECT_TRUE(
      StatusBecomes([](const nlohmann::json& s) { return s["anchors"]["asked"] == 2 && s["anchors"]["cached"] == 1; }));
}

TEST_F(BrokerAnchorTest, AScoreOfTheSameBytesIsNoAnchor) {
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score"), teacher = Join("teacher.0");
  teacher->Send(Credit(4));
  generator->Send(Sample(1));
  const auto lease = teacher->Receive(kSoon);
  ASSERT_TRUE(lease);
  teacher->Send(ScoreFor(*lease));
  ASSERT_TRUE(fake->Receive(kSoon));
  ASSERT_TRUE(StatusBecomes([](const nlohmann::json& s) { return s["cache"]["entries"] == 1; }));
  generator->Send(Request(1));
  const auto other = teacher->Receive(kSoon);
  ASSERT_TRUE(other);
  EXPECT_EQ(other->kind, wire::Kind::AnchorLease);
}

TEST_F(BrokerAnchorTest, LeasesTheScoresOfAStepBeforeItsAnchorsAndTheseBeforeTheNextStep) {
  Start();
  const auto generator = Join("generator"), teacher = Join("teacher.0");
  generator->Send(Sample(1));
  generator->Send(Request(0));
  generator->Send(Sample(0));
  ASSERT_TRUE(StatusBecomes([](const nlohmann::json& s) { return s["queued"] == 3; }));
  teacher->Send(Credit(3));
  for (const auto& [kind, step] :
       {std::pair{wire::Kind::ScoreLease, 0}, {wire::Kind::AnchorLease, 0}, {wire::Kind::ScoreLease, 1}}) {
    const auto lease = teacher->Receive(kSoon);
    ASSERT_TRUE(lease);
    EXPECT_EQ(lease->kind, kind);
    EXPECT_EQ(lease->step, step);
  }
}

TEST_F(BrokerAnchorTest, GivesTheLeaseOfADeadTeacherToAnotherAndDropsSecondAnswers) {
  plan_.topology.transport.lease_seconds = 0.05;  // an anchor of 5 steps has 0.25 s
  Start();
  const auto generator = Join("generator"), slow = Join("teacher.0");
  slow->Send(Credit(1));
  generator->Send(Request(0));
  generator->Send(Request(0));
  const auto first = slow->Receive(kSoon);
  const auto quick = Join("teacher.1");
  quick->Send(Credit(2));
  const auto second = quick->Receive(kSoon);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(second->request_id, first->request_id);
  EXPECT_EQ(second->attempt, 2U);
  quick->Send(AnswerTo(*second));
  ASSERT_TRUE(generator->Receive(kSoon));
  slow->Send(AnswerTo(*first));
  EXPECT_FALSE(generator->Receive(kBriefly));
  EXPECT_FALSE(quick->Receive(kBriefly));
}

TEST_F(BrokerAnchorTest, RefusesAnchorsOfTheWrongShapeOrKind) {
  Start();
  const auto generator = Join("generator");
  generator->Send(Request(0));
  const auto misshapen = Join("teacher.0");
  misshapen->Send(Credit(1));
  auto lease = misshapen->Receive(kSoon);
  ASSERT_TRUE(lease);
  misshapen->Send(AnswerTo(*lease, {2, 1}));
  EXPECT_THAT(ErrorOf([&] { misshapen->Receive(kSoon); }),
              HasSubstr("its anchor does not have the shape of the experiment's latents"));
  const auto confused = Join("teacher.1");
  confused->Send(Credit(1));
  lease = confused->Receive(kSoon);
  ASSERT_TRUE(lease);
  confused->Send(ScoreFor(*lease));
  EXPECT_THAT(ErrorOf([&] { confused->Receive(kSoon); }),
              HasSubstr("its answer is no anchor: Score of teacher.1 is not of kind Anchor"));
  const auto good = Join("teacher.2");
  good->Send(Credit(1));
  lease = good->Receive(kSoon);
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->attempt, 3U);
  good->Send(AnswerTo(*lease));
  const auto anchor = generator->Receive(kSoon);
  ASSERT_TRUE(anchor);
  EXPECT_EQ(First(FromEnvelope<message::ServedAnchor>(*anchor).x_a), 7);
}

TEST_F(BrokerAnchorTest, DropsRequestsThatAreNotTheExperiments) {
  Start();
  const auto generator = Join("generator"), teacher = Join("teacher.0");
  teacher->Send(Credit(9));
  generator->Send(Request(0, 1, {1, 3}));
  generator->Send(Request(10));
  Envelope bare = Request(0);
  bare.tensors.pop_back();
  generator->Send(bare);
  teacher->Send(Request(0));  // not its to ask
  EXPECT_FALSE(teacher->Receive(kBriefly));
  generator->Send(Request(0));
  EXPECT_TRUE(teacher->Receive(kSoon));
}

TEST_F(BrokerAnchorTest, ServesNoneWhereTheExperimentHasNoDiversityLoss) {
  plan_.experiment.diversity.weight = 0;
  run_id_ = ExperimentDigest(plan_.experiment);
  Start();
  const auto generator = Join("generator"), teacher = Join("teacher.0");
  teacher->Send(Credit(1));
  generator->Send(Request(0));
  EXPECT_FALSE(teacher->Receive(kBriefly));
}

TEST_F(BrokerAnchorTest, HoldsACheckpointUntilTheAnchorsOfItsStepsAreOnDisk) {
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score"), teacher = Join("teacher.0");
  generator->Send(Request(4));
  generator->Send(Request(5, 2));  // of the step after the checkpoint: it does not wait for this one
  ASSERT_TRUE(StatusBecomes([](const nlohmann::json& s) { return s["queued"] == 2; }));
  fake->Send(ToEnvelope(message::CheckpointPart{5, "a file", {1, 2}, 1, 0}));
  EXPECT_FALSE(generator->Receive(kBriefly));
  teacher->Send(Credit(1));
  const auto lease = teacher->Receive(kSoon);
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->step, 4);
  teacher->Send(AnswerTo(*lease));
  const auto anchor = generator->Receive(kSoon), part = generator->Receive(kSoon);
  ASSERT_TRUE(anchor && part);
  EXPECT_EQ(anchor->kind, wire::Kind::ServedAnchor);
  EXPECT_EQ(part->kind, wire::Kind::CheckpointPart);
  EXPECT_EQ(FromEnvelope<message::CheckpointPart>(*part).digest, (Digest{1, 2}));
}

TEST_F(BrokerAnchorTest, HoldsEveryPartOfACheckpointUntilTheScoresOfItsStepsAreOnDisk) {
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score"), teacher = Join("teacher.0");
  generator->Send(Sample(0));
  const auto declined = message::CheckpointPart{0, "of step 0", {}, 0, 0, /*healthy=*/false};
  fake->Send(ToEnvelope(declined));
  const auto first = generator->Receive(kSoon);
  ASSERT_TRUE(first) << "nothing before step 0 is open";
  EXPECT_FALSE(FromEnvelope<message::CheckpointPart>(*first).healthy);
  for (const char* name : {"a", "b"}) fake->Send(ToEnvelope(message::CheckpointPart{1, name, {}, 2, 0}));
  EXPECT_FALSE(generator->Receive(kBriefly)) << "the score of step 0 is with no teacher yet";
  teacher->Send(Credit(1));
  const auto lease = teacher->Receive(kSoon);
  ASSERT_TRUE(lease);
  teacher->Send(ScoreFor(*lease));
  for (const char* name : {"a", "b"}) {
    const auto part = generator->Receive(kSoon);
    ASSERT_TRUE(part);
    EXPECT_EQ(FromEnvelope<message::CheckpointPart>(*part).file, name);
  }
}

TEST_F(BrokerAnchorTest, ReplayServesWhatWasRecordedAndNamesWhatWasNot) {
  Start();
  {
    const auto generator = Join("generator"), teacher = Join("teacher.0");
    teacher->Send(Credit(1));
    generator->Send(Request(0));
    const auto lease = teacher->Receive(kSoon);
    ASSERT_TRUE(lease);
    teacher->Send(AnswerTo(*lease));
    ASSERT_TRUE(generator->Receive(kSoon));
  }
  Stop();
  Start(/*replay=*/true);
  const auto generator = Join("generator");
  generator->Send(Request(3));
  const auto anchor = generator->Receive(kSoon);
  ASSERT_TRUE(anchor);
  EXPECT_TRUE(FromEnvelope<message::ServedAnchor>(*anchor).cache_hit);
  generator->Send(Request(4, 2));
  EXPECT_THAT(ErrorOf([&] { generator->Receive(kSoon); }),
              HasSubstr("replay: no anchor recorded for step 4, micro-batch 0"));
  Wait();
  EXPECT_EQ(exit_code_, 1);
}

}  // namespace
}  // namespace sgmd
