// Anchors through the broker: cached, leased and dispatched again as scores are, and apart from them.
#include <cstring>

#include "tests/nodes/broker_fixture.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

class BrokerAnchorTest : public BrokerFixture {
 protected:
  BrokerAnchorTest() {
    plan_.experiment.data.latent = {2};
    plan_.experiment.diversity.weight = 0.05;
    run_id_ = ExperimentDigest(plan_.experiment);
  }
  static Envelope Request(std::int64_t step, float noise = 1, std::vector<std::int64_t> shape = {1, 2}) {
    Envelope request = Message(wire::Kind::AnchorRequest, step);
    request.tensors = {Floats("noise", std::move(shape), noise), Floats("prompts", {1, 4}, 1)};
    return request;
  }
  static Envelope AnswerTo(const Envelope& lease, std::vector<std::int64_t> shape = {1, 2}) {
    Envelope anchor = Message(wire::Kind::Anchor, lease.step);
    anchor.request_id = lease.request_id;
    anchor.attempt = lease.attempt;
    anchor.tensors = {Floats("x_a", std::move(shape), 7)};
    return anchor;
  }
  static float First(const TensorFrame& frame) {
    float value = 0;
    std::memcpy(&value, frame.view.bytes.data(), sizeof value);
    return value;
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
  ASSERT_TRUE(first && first->kind == wire::Kind::Anchor);
  EXPECT_EQ(first->scalars.at("cache_hit"), 0);
  EXPECT_EQ(First(first->At("x_a")), 7);
  EXPECT_EQ(first->Find("noise"), nullptr) << "the generator has it";
  ASSERT_TRUE(StatusBecomes([](const nlohmann::json& s) { return s["cache"]["entries"] == 1; }));
  generator->Send(Request(5));
  const auto again = generator->Receive(kSoon);
  ASSERT_TRUE(again && again->kind == wire::Kind::Anchor);
  EXPECT_EQ(again->step, 5);
  EXPECT_EQ(again->scalars.at("cache_hit"), 1);
  EXPECT_EQ(First(again->At("x_a")), 7);
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
       {std::pair{wire::Kind::Lease, 0}, {wire::Kind::AnchorLease, 0}, {wire::Kind::Lease, 1}}) {
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
              HasSubstr("its anchor has not the dtype and shape of noise"));
  const auto confused = Join("teacher.1");
  confused->Send(Credit(1));
  lease = confused->Receive(kSoon);
  ASSERT_TRUE(lease);
  Envelope score = ScoreFor(*lease);
  score.tensors.push_back(Floats("x_a", {1, 2}, 3));
  confused->Send(score);
  EXPECT_THAT(ErrorOf([&] { confused->Receive(kSoon); }), HasSubstr("anchor"));
  const auto good = Join("teacher.2");
  good->Send(Credit(1));
  lease = good->Receive(kSoon);
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->attempt, 3U);
  good->Send(AnswerTo(*lease));
  const auto anchor = generator->Receive(kSoon);
  ASSERT_TRUE(anchor);
  EXPECT_EQ(First(anchor->At("x_a")), 7);
}

TEST_F(BrokerAnchorTest, DropsRequestsThatAreNotTheExperiments) {
  Start();
  const auto generator = Join("generator"), teacher = Join("teacher.0");
  teacher->Send(Credit(9));
  generator->Send(Request(0, 1, {2, 2}));
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
  fake->Send(Message(wire::Kind::CheckpointPart, 5));
  EXPECT_FALSE(generator->Receive(kBriefly));
  teacher->Send(Credit(1));
  const auto lease = teacher->Receive(kSoon);
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->step, 4);
  teacher->Send(AnswerTo(*lease));
  const auto anchor = generator->Receive(kSoon), part = generator->Receive(kSoon);
  ASSERT_TRUE(anchor && part);
  EXPECT_EQ(anchor->kind, wire::Kind::Anchor);
  EXPECT_EQ(part->kind, wire::Kind::CheckpointPart);
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
  EXPECT_EQ(anchor->scalars.at("cache_hit"), 1);
  generator->Send(Request(4, 2));
  EXPECT_THAT(ErrorOf([&] { generator->Receive(kSoon); }),
              HasSubstr("replay: no anchor recorded for step 4, micro-batch 0"));
  Wait();
  EXPECT_EQ(exit_code_, 1);
}

}  // namespace
}  // namespace sgmd
