// The broker when all goes well: who gets in, and how a sample gets its score.
#include <zmq.hpp>

#include "tests/nodes/broker_fixture.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

class BrokerTest : public BrokerFixture {
 protected:
  BrokerTest() { Start(); }
  std::string Refusal(const NodeIdentity& identity, Digest model = {}) {
    return ErrorOf([&] { Client(plan_.topology.transport.data, identity, ToEnvelope(message::Hello{model}), kSoon); });
  }
};

TEST_F(BrokerTest, RefusesAnotherRunAnotherEpochAndAnotherTeacher) {
  NodeIdentity other_run = Identity("generator"), other_epoch = Identity("generator");
  other_run.run_id = {1, 1};
  ++other_epoch.epoch;
  EXPECT_THAT(Refusal(other_run), HasSubstr("refused generator"));
  EXPECT_THAT(Refusal(other_epoch), HasSubstr("another start of this one"));
  EXPECT_THAT(Refusal(Identity("teacher.0"), {5, 5}), HasSubstr(Digest{5, 5}.Hex()));
  EXPECT_THAT(Refusal(Identity("stranger")), HasSubstr("refused stranger"));
}

TEST_F(BrokerTest, LeasesASampleOnceAndServesItsTwinFromTheCache) {
  const auto generator = Join("generator"), fake = Join("fake_score"), teacher = Join("teacher.0");
  teacher->Send(Credit(4));
  generator->Send(Sample(0, 1.5F));
  const auto lease = teacher->Receive(kSoon);
  ASSERT_TRUE(lease && lease->kind == wire::Kind::ScoreLease);
  EXPECT_EQ(lease->tensors.size(), 3U) << "a teacher does not need x_g";
  teacher->Send(ScoreFor(*lease));
  const auto first = fake->Receive(kSoon);
  ASSERT_TRUE(first);
  const auto scored = FromEnvelope<message::ScoredSample>(*first);
  EXPECT_FALSE(scored.cache_hit);
  EXPECT_EQ(First(scored.velocity), 9);
  EXPECT_EQ(First(scored.sample.x_g), 1.5F);
  // The score is persisted after the reply: soon, but not before.
  ASSERT_TRUE(StatusBecomes([](const nlohmann::json& s) { return s["cache"]["entries"] == 1; }));
  generator->Send(Sample(1, 1.5F));
  const auto again = fake->Receive(kSoon);
  ASSERT_TRUE(again);
  EXPECT_TRUE(FromEnvelope<message::ScoredSample>(*again).cache_hit);
  EXPECT_EQ(First(FromEnvelope<message::ScoredSample>(*again).velocity), 9);
}

TEST_F(BrokerTest, GivesTheLeaseOfALeavingTeacherToAnother) {
  const auto generator = Join("generator"), fake = Join("fake_score"), first = Join("teacher.0");
  first->Send(Credit(1));
  generator->Send(Sample(0, 2));
  ASSERT_TRUE(first->Receive(kSoon));
  const auto second = Join("teacher.1");
  second->Send(Credit(1));
  first->Send(ToEnvelope(message::Leave{}));
  const auto lease = second->Receive(kSoon);
  ASSERT_TRUE(lease && lease->kind == wire::Kind::ScoreLease);
  EXPECT_EQ(lease->attempt, 2U);
}

TEST_F(BrokerTest, DropsSamplesThatAreNotWholeOrNotTheExperiments) {
  const auto generator = Join("generator"), teacher = Join("teacher.0");
  teacher->Send(Credit(9));
  Envelope bare = Sample(0);
  bare.tensors.pop_back();
  generator->Send(bare);
  generator->Send(ToEnvelope(
      message::Sample{{0, 0}, 0, Floats("", {1, 3}, 1), Floats("", {1, 3}, 1), Floats("", {1}, 0.5F), Prompts()}));
  generator->Send(Sample(10));
  EXPECT_FALSE(teacher->Receive(kBriefly));
  generator->Send(Sample(0));
  EXPECT_TRUE(teacher->Receive(kSoon));
}

TEST_F(BrokerTest, SurvivesMalformedMessages) {
  zmq::context_t context;
  zmq::socket_t raw(context, zmq::socket_type::dealer);
  raw.set(zmq::sockopt::linger, 1000);
  raw.connect(plan_.topology.transport.data);
  for (const std::string& junk : {std::string(), std::string("junk"), std::string(4096, '\xff')}) {
    raw.send(zmq::buffer(junk), zmq::send_flags::sndmore);
    raw.send(zmq::buffer(junk), zmq::send_flags::none);
  }
  EXPECT_NO_THROW(Join("generator"));
}

TEST_F(BrokerTest, EndpointInUseIsAnError) {
  Stop();
  const Server other(plan_.topology.transport.data);  // as another broker's
  const std::string error = ErrorOf([&] { Start(); });
  EXPECT_THAT(error, HasSubstr("in use"));
  EXPECT_THAT(error, HasSubstr(plan_.topology.transport.data));
}

TEST_F(BrokerTest, ClosesEveryNodeWhenTheGeneratorHasFinished) {
  const auto generator = Join("generator"), fake = Join("fake_score"), teacher = Join("teacher.0");
  generator->Send(ToEnvelope(message::Finished{10, 1}));
  for (Client* node : {generator.get(), fake.get(), teacher.get()}) {
    const auto close = node->Receive(kSoon);
    ASSERT_TRUE(close);
    EXPECT_EQ(close->kind, wire::Kind::Close);
  }
  Wait();
  EXPECT_EQ(exit_code_, 0);
}

// What may pass, and from whom: a role that sends what is another's to send is not heard.
TEST(Routes, AdmitEachKindFromItsSenderAlone) {
  EXPECT_NE(RouteOf(Socket::kData, wire::Kind::Sample, "generator"), nullptr);
  EXPECT_EQ(RouteOf(Socket::kData, wire::Kind::Sample, "teacher.0"), nullptr);
  EXPECT_EQ(RouteOf(Socket::kControl, wire::Kind::Sample, "generator"), nullptr);
  EXPECT_NE(RouteOf(Socket::kData, wire::Kind::Score, "teacher.12"), nullptr);
  EXPECT_EQ(RouteOf(Socket::kData, wire::Kind::Score, "fake_score"), nullptr);
  EXPECT_STREQ(RouteOf(Socket::kData, wire::Kind::CheckpointOrder, "generator")->to, "fake_score");
  EXPECT_EQ(RouteOf(Socket::kData, wire::Kind::CheckpointOrder, "fake_score"), nullptr);
  EXPECT_EQ(RouteOf(Socket::kData, wire::Kind::CheckpointPart, "generator"), nullptr);
  EXPECT_STREQ(RouteOf(Socket::kControl, wire::Kind::RoleFailed, "launcher.b")->to, "launcher");
  EXPECT_EQ(RouteOf(Socket::kControl, wire::Kind::Scale, "teacher.0"), nullptr);
}

}  // namespace
}  // namespace sgmd
