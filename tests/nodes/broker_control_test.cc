// What the control socket answers: status, scale, drain, what other hosts tell.
#include <cmath>

#include "common/transport/heartbeat.h"
#include "tests/nodes/broker_fixture.h"

namespace sgmd {
namespace {

using std::chrono::milliseconds;

class BrokerControlTest : public BrokerFixture {};

TEST_F(BrokerControlTest, StatusMergesBeats) {
  Start();
  const auto generator = Join("generator");
  Heartbeat heartbeat(plan_.topology.transport.control, Identity("generator"), 0.05);
  heartbeat.Report({{"step", 4}, {"generator_loss", 0.5}, {"broken", std::nan("")}});
  heartbeat.Progress();
  ASSERT_TRUE(StatusBecomes([](const nlohmann::json& s) { return s["step"] == 4; }));
  const auto control = Control("client.2");
  const nlohmann::json status = Status(*control);
  EXPECT_EQ(status["state"], "running");
  EXPECT_EQ(status["steps"], 10);
  EXPECT_EQ(status["scalars"]["generator_loss"], 0.5);
  EXPECT_FALSE(status["scalars"].contains("broken"));
  EXPECT_TRUE(status["cache"].contains("hit_mb_per_s"));
  EXPECT_EQ(status["nodes"][0]["name"], "generator");
  EXPECT_EQ(status["nodes"][0]["alive"], true);
  EXPECT_EQ(status["nodes"][0]["progress"], 1);
}

TEST_F(BrokerControlTest, ScaleGoesToTheLauncher) {
  Start();
  const auto client = Control("client.1");
  Envelope scale = Message(wire::Kind::Scale);
  scale.count = 3;
  client->Send(scale);
  auto answer = client->Receive(kSoon);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->kind, wire::Kind::Refused);
  const auto launcher = Control("launcher");
  client->Send(scale);
  const auto order = launcher->Receive(kSoon);
  answer = client->Receive(kSoon);
  ASSERT_TRUE(order && answer);
  EXPECT_EQ(order->count, 3);
  EXPECT_EQ(answer->kind, wire::Kind::Welcome);
}

TEST_F(BrokerControlTest, DrainReachesAGeneratorThatIsNotThereYet) {
  Start();
  const auto launcher = Control("launcher");
  launcher->Send(Message(wire::Kind::Drain));
  EXPECT_EQ(Status(*launcher)["state"], "draining");
  const Heartbeat heartbeat(plan_.topology.transport.control, Identity("generator"), 0.05);
  for (int i = 0; i < 100 && !heartbeat.drain_requested(); ++i) std::this_thread::sleep_for(milliseconds(20));
  EXPECT_TRUE(heartbeat.drain_requested());
}

TEST_F(BrokerControlTest, OrdersToScaleReachEveryHostAlsoOneThatComesLater) {
  Start();
  const auto head = Control("launcher"), host = Control("launcher.b"), person = Control("client.1");
  Envelope scale = Message(wire::Kind::Scale);
  scale.count = 5;
  person->Send(scale);
  for (Client* launcher : {head.get(), host.get()}) {
    const auto order = launcher->Receive(kSoon);
    ASSERT_TRUE(order);
    EXPECT_EQ(order->kind, wire::Kind::Scale);
    EXPECT_EQ(order->count, 5);
  }
  const auto late = Control("launcher.c");
  const auto order = late->Receive(kSoon);
  ASSERT_TRUE(order);
  EXPECT_EQ(order->count, 5);
  EXPECT_FALSE(head->Receive(kBriefly));
}

TEST_F(BrokerControlTest, AFailureOnAnotherHostReachesTheLauncherOfThisOne) {
  Start();
  const auto head = Control("launcher"), host = Control("launcher.b");
  Envelope failure = Message(wire::Kind::RoleFailed);
  failure.text = "fake_score\nlast words";
  failure.count = 3;
  host->Send(failure);
  const auto told = head->Receive(kSoon);
  ASSERT_TRUE(told);
  EXPECT_EQ(told->kind, wire::Kind::RoleFailed);
  EXPECT_EQ(told->text, failure.text);
  EXPECT_EQ(told->count, 3);
}

TEST_F(BrokerControlTest, OfAnEncryptedRunAnswersThoseWithItsKeyAlone) {
  plan_.topology.transport.encrypt = true;
  const auto keys = RunFolder{plan_.topology.run.folder}.Keys();
  EXPECT_THAT(ErrorOf([&] { Start(); }), testing::HasSubstr("key is missing"));
  MakeRunKeys(keys);
  Start();
  NodeIdentity identity = Identity("client.1");
  EXPECT_THAT(ErrorOf([&] { Client(plan_.topology.transport.control, identity, {}, kBriefly); }),
              testing::HasSubstr("does not answer"));
  identity.keys = LoadClientKeys(keys);
  Client control(plan_.topology.transport.control, identity, {}, kSoon);
  EXPECT_EQ(Status(control)["state"], "running");
}

}  // namespace
}  // namespace sgmd
