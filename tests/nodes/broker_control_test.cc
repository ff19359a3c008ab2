// What the control socket answers: status, scale, drain.
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
  Heartbeat heartbeat(plan_.topology.control_endpoint, Identity("generator"), 0.05);
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
  const Heartbeat heartbeat(plan_.topology.control_endpoint, Identity("generator"), 0.05);
  for (int i = 0; i < 100 && !heartbeat.drain_requested(); ++i) std::this_thread::sleep_for(milliseconds(20));
  EXPECT_TRUE(heartbeat.drain_requested());
}

}  // namespace
}  // namespace sgmd
