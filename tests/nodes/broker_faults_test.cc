// The broker when processes die, hang, repeat themselves or misbehave.
#include "common/transport/heartbeat.h"
#include "common/transport/socket.h"
#include "nodes/broker/replay_check.h"
#include "tests/nodes/broker_fixture.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

class BrokerFaultsTest : public BrokerFixture {
 protected:
  // As another process than this one.
  std::unique_ptr<Client> JoinAs(const std::string& node, std::uint64_t process) {
    NodeIdentity identity = Identity(node);
    identity.process = process;
    const Digest model = node.starts_with("teacher.") ? ModelDigest(plan_.experiment.model.teacher) : Digest();
    return std::make_unique<Client>(plan_.topology.transport.data, identity, ToEnvelope(message::Hello{model}), kSoon);
  }
};

TEST_F(BrokerFaultsTest, ReleasesTheLeaseOfATeacherThatDies) {
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score");
  auto dying = Join("teacher.0");
  dying->Send(Credit(1));
  generator->Send(Sample(0));
  ASSERT_TRUE(dying->Receive(kSoon));
  dying.reset();
  const auto other = Join("teacher.1");
  other->Send(Credit(1));
  EXPECT_FALSE(other->Receive(kBriefly)) << "the lease has neither expired nor was its holder reported dead";
  Exited("teacher.0");
  const auto lease = other->Receive(kSoon);
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->attempt, 2U);
  other->Send(ScoreFor(*lease));
  const auto scored = fake->Receive(kSoon);
  ASSERT_TRUE(scored);
  EXPECT_EQ(scored->kind, wire::Kind::ScoredSample);
}

TEST_F(BrokerFaultsTest, ATeacherThatStartsAnewGetsItsLeaseAgain) {
  Start();
  const auto generator = Join("generator");
  auto first = JoinAs("teacher.0", /*process=*/1);
  first->Send(Credit(1));
  generator->Send(Sample(0));
  ASSERT_TRUE(first->Receive(kSoon));
  const auto second = Join("teacher.0");
  second->Send(Credit(1));
  const auto lease = second->Receive(kSoon);
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->attempt, 2U);
  // The first still lives; it does not get its name back.
  EXPECT_THAT(ErrorOf([&] { JoinAs("teacher.0", 1); }), HasSubstr("taken its name over"));
}

TEST_F(BrokerFaultsTest, ReDispatchesAnExpiredLeaseAndDropsTheSecondAnswer) {
  plan_.topology.transport.lease_seconds = 0.2;
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score"), slow = Join("teacher.0");
  slow->Send(Credit(1));
  generator->Send(Sample(0));
  const auto first = slow->Receive(kSoon);
  const auto quick = Join("teacher.1");
  quick->Send(Credit(1));
  const auto second = quick->Receive(kSoon);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->request_id, second->request_id);
  quick->Send(ScoreFor(*second));
  ASSERT_TRUE(fake->Receive(kSoon));
  slow->Send(ScoreFor(*first));
  EXPECT_FALSE(fake->Receive(kBriefly));
}

TEST_F(BrokerFaultsTest, RepeatedMessagesChangeNothing) {
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score"), teacher = Join("teacher.0");
  teacher->Send(Credit(4));
  generator->Send(Sample(0));
  generator->Send(Sample(0));
  const auto lease = teacher->Receive(kSoon);
  ASSERT_TRUE(lease);
  teacher->Send(ScoreFor(*lease));
  teacher->Send(ScoreFor(*lease));
  ASSERT_TRUE(fake->Receive(kSoon));
  generator->Send(Sample(0));
  EXPECT_FALSE(teacher->Receive(kBriefly));
  EXPECT_FALSE(fake->Receive(kBriefly));
}

TEST_F(BrokerFaultsTest, RefusesASecondProcessInATrainedRole) {
  Start();
  const auto generator = Join("generator");
  EXPECT_THAT(ErrorOf([&] { JoinAs("generator", /*process=*/1); }), HasSubstr("another process has this role"));
}

TEST_F(BrokerFaultsTest, GivesARefusedTeacherNothing) {
  Start();
  const auto generator = Join("generator");
  generator->Send(Sample(0));
  zmq::socket_t stranger = MakeSocket(zmq::socket_type::dealer);
  const NodeIdentity identity = Identity("teacher.0");
  UseCredentials(stranger, identity.credentials);
  stranger.connect(plan_.topology.transport.data);
  Envelope hello = ToEnvelope(message::Hello{}), credit = Credit(5);  // not the experiment's model
  for (Envelope* e : {&hello, &credit}) {
    Stamp(*e, identity);
    EXPECT_TRUE(SendEnvelope(stranger, {}, *e));
  }
  const auto teacher = Join("teacher.1");
  teacher->Send(Credit(1));
  const auto lease = teacher->Receive(kSoon);
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->attempt, 1U);
}

TEST_F(BrokerFaultsTest, AnIdleTeacherGetsTheExpiredLeaseAndNotTheOneThatHangs) {
  plan_.topology.transport.lease_seconds = 0.2;
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score"), hung = Join("teacher.0");
  hung->Send(Credit(5));
  generator->Send(Sample(0));
  const auto first = hung->Receive(kSoon);
  ASSERT_TRUE(first);
  EXPECT_FALSE(hung->Receive(std::chrono::milliseconds(700))) << "it hangs, and has credit";
  const auto idle = Join("teacher.1");
  idle->Send(Credit(1));
  const auto second = idle->Receive(kSoon);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->attempt, 2U);
  hung->Send(ScoreFor(*first));
  ASSERT_TRUE(fake->Receive(kSoon)) << "its late answer counts";
  generator->Send(Sample(1));
  EXPECT_TRUE(hung->Receive(kSoon)) << "and it gets work again";
}

TEST_F(BrokerFaultsTest, KeepsWhatComesBeforeTheReceiverHasJoined) {
  Start();
  const auto generator = Join("generator");
  for (std::int64_t i = 0; i < 3; ++i)
    generator->Send(ToEnvelope(message::InnerSample{{i, 0}, 0, Floats("", {1, 2}, 1), Prompts()}));
  std::this_thread::sleep_for(kBriefly);
  const auto fake = Join("fake_score");
  for (std::int64_t i = 0; i < 3; ++i) {
    const auto got = fake->Receive(kSoon);
    ASSERT_TRUE(got);
    EXPECT_EQ(got->step, i);
  }
  fake->Send(ToEnvelope(message::Gradient{{5, 0}, 5, false, {}, Floats("", {1, 2}, 1)}));
  fake->Send(ToEnvelope(message::CheckpointPart{6, "a file", {}, 1, 0}));
  for (const std::int64_t step : {5, 6}) {
    const auto got = generator->Receive(kSoon);
    ASSERT_TRUE(got);
    EXPECT_EQ(got->step, step);
  }
}

TEST_F(BrokerFaultsTest, ANameOfAnotherUserIsRefused) {
  Start();
  NodeIdentity identity = Identity("teacher.0");
  identity.node = "generator";
  EXPECT_THAT(ErrorOf([&] { Client(plan_.topology.transport.data, identity, {}, kSoon); }),
              HasSubstr("its key is that of teacher"));
  identity.node = "launcher";
  EXPECT_THAT(ErrorOf([&] { Client(plan_.topology.transport.control, identity, {}, kSoon); }),
              HasSubstr("its key is that of teacher"));
  identity.node = "generator";
  const Heartbeat forged(plan_.topology.transport.control, identity, 0.05);
  const auto control = Control("client.2");
  std::this_thread::sleep_for(kBriefly);
  EXPECT_TRUE(Status(*control)["nodes"].empty());
}

TEST_F(BrokerFaultsTest, ARefusalTellsNothingOfTheRun) {
  Start();
  NodeIdentity identity = Identity("generator");
  identity.run_id = {1, 2};
  const std::string refusal = ErrorOf([&] { Client(plan_.topology.transport.data, identity, {}, kSoon); });
  EXPECT_THAT(refusal, HasSubstr("another run"));
  EXPECT_THAT(refusal, testing::Not(HasSubstr(run_id_.Hex())));
}

TEST_F(BrokerFaultsTest, ReplayServesWhatWasRecordedAndNamesWhatWasNot) {
  Start();
  {
    const auto generator = Join("generator"), fake = Join("fake_score"), teacher = Join("teacher.0");
    teacher->Send(Credit(1));
    generator->Send(Sample(0));
    const auto lease = teacher->Receive(kSoon);
    ASSERT_TRUE(lease);
    teacher->Send(ScoreFor(*lease));
    ASSERT_TRUE(fake->Receive(kSoon));
  }
  Stop();  // as a signal does: what was stored is flushed
  EXPECT_EQ(exit_code_, 1);
  const auto record = nlohmann::json::parse(ReplayCheckText(plan_));
  EXPECT_EQ(record["answers"], 10);
  EXPECT_EQ(record["there"], 1);
  EXPECT_EQ(record["complete"], 1);
  EXPECT_EQ(record["recorded"], 1);
  EXPECT_EQ(record["evicted"], 0);
  EXPECT_EQ(record["lost"], 0);
  Start(/*replay=*/true);
  EXPECT_THAT(ErrorOf([&] { Join("teacher.0"); }), HasSubstr("no teachers"));
  const auto generator = Join("generator"), fake = Join("fake_score");
  generator->Send(Sample(0));
  const auto scored = fake->Receive(kSoon);
  ASSERT_TRUE(scored);
  EXPECT_TRUE(FromEnvelope<message::ScoredSample>(*scored).cache_hit);
  generator->Send(Sample(3));
  for (Client* node : {generator.get(), fake.get()}) {
    EXPECT_THAT(ErrorOf([&] { node->Receive(kSoon); }), HasSubstr("no score recorded for step 3, micro-batch 0"));
  }
  Wait();
  EXPECT_EQ(exit_code_, 1);
}

TEST_F(BrokerFaultsTest, ReplayOfAnotherGuidanceIsRefusedAtTheStart) {
  Start();
  Stop();
  plan_.experiment.model.guidance = 5;
  EXPECT_THAT(ErrorOf([&] { Start(/*replay=*/true); }), HasSubstr("guidance 1"));
}

}  // namespace
}  // namespace sgmd
