// What the broker makes of signs of life: who works, waits, is stuck or silent, and whom the run waits for.
#include "common/metrics/work_count.h"
#include "common/transport/heartbeat.h"
#include "tests/nodes/broker_fixture.h"

namespace sgmd {
namespace {

using std::chrono::milliseconds;

class BrokerLivenessTest : public BrokerFixture {};

nlohmann::json NodeNamed(const nlohmann::json& status, const std::string& name) {
  for (const auto& node : status["nodes"]) {
    if (node["name"] == name) return node;
  }
  return {};
}

TEST_F(BrokerLivenessTest, ASilentTrainedRoleIsNamedAndTheRunGoesOnWhenItIsBack) {
  plan_.topology.transport.silence_seconds = 0.5;
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score");
  const Heartbeat heartbeat(plan_.topology.transport.control, Identity("generator"), 0.05);
  ASSERT_TRUE(StatusBecomes([](const auto& s) { return NodeNamed(s, "fake_score")["state"] == "silent"; }));
  const auto control = Control("client.2");
  EXPECT_EQ(NodeNamed(Status(*control), "fake_score")["stalled"], true);
  EXPECT_EQ(NodeNamed(Status(*control), "generator")["stalled"], false);
  const Heartbeat back(plan_.topology.transport.control, Identity("fake_score"), 0.05);
  EXPECT_TRUE(StatusBecomes([](const auto& s) { return NodeNamed(s, "fake_score")["stalled"] == false; }));
}

// Before its first beat too: the ranks of a group have met when the first of them joins.
TEST_F(BrokerLivenessTest, ARankThatNeverBeatIsSilent) {
  plan_.topology.transport.silence_seconds = 0.5;
  plan_.topology.fake_score.devices = {"cpu", "cpu"};
  Start();
  const auto fake = Join("fake_score");
  const Heartbeat of_first(plan_.topology.transport.control, Identity("fake_score"), 0.05);
  ASSERT_TRUE(StatusBecomes([](const auto& s) { return NodeNamed(s, "fake_score/1")["state"] == "silent"; }));
  const auto control = Control("client.2");
  EXPECT_EQ(NodeNamed(Status(*control), "fake_score")["stalled"], false);
  const Heartbeat of_second(plan_.topology.transport.control, Identity("fake_score/1"), 0.05);
  EXPECT_TRUE(StatusBecomes([](const auto& s) { return NodeNamed(s, "fake_score/1")["stalled"] == false; }));
}

TEST_F(BrokerLivenessTest, ARoleThatBeatsAndDoesNothingWhileItWorksIsStalled) {
  plan_.topology.restart.stall_seconds = 0.5;
  Start();
  const auto generator = Join("generator"), fake = Join("fake_score");
  const Heartbeat of_generator(plan_.topology.transport.control, Identity("generator"), 0.05);
  const Heartbeat of_fake(plan_.topology.transport.control, Identity("fake_score"), 0.05);
  {
    const Waiting waiting;  // all of this process do
    std::this_thread::sleep_for(milliseconds(800));
    const auto control = Control("client.2");
    EXPECT_EQ(NodeNamed(Status(*control), "generator")["state"], "waiting");
  }
  ASSERT_TRUE(StatusBecomes([](const auto& s) { return NodeNamed(s, "generator")["state"] == "stalled"; }));
  CountWork();
  EXPECT_TRUE(StatusBecomes([](const auto& s) { return NodeNamed(s, "generator")["state"] == "working"; }));
}

TEST_F(BrokerLivenessTest, AStalledTeachersLeaseGoesToAnother) {
  plan_.topology.restart.stall_seconds = 0.5;
  Start();
  const auto generator = Join("generator"), stuck = Join("teacher.0");
  const Heartbeat beats(plan_.topology.transport.control, Identity("teacher.0"), 0.05);
  stuck->Send(Credit(1));
  generator->Send(Sample(0));
  ASSERT_TRUE(stuck->Receive(kSoon));
  const auto other = Join("teacher.1");
  const Heartbeat others_beats(plan_.topology.transport.control, Identity("teacher.1"), 0.05);
  other->Send(Credit(1));
  std::this_thread::sleep_for(milliseconds(1200));  // at work: Receive would count as waiting, in all of this process
  const auto lease = other->Receive(kSoon);
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->attempt, 2U);
}

TEST_F(BrokerLivenessTest, SaysWhomTheRunWaitsFor) {
  Start();
  const auto waits_for = [&](const std::string& words) {
    return StatusBecomes(
        [&](const auto& s) { return s["waiting_for"].template get<std::string>().find(words) != std::string::npos; });
  };
  EXPECT_TRUE(waits_for("generator, which has not come yet"));
  const Waiting waiting;
  const Heartbeat of_generator(plan_.topology.transport.control, Identity("generator"), 0.05);
  EXPECT_TRUE(waits_for("generator, which is starting"));
  const auto generator = Join("generator"), fake = Join("fake_score");
  const Heartbeat of_fake(plan_.topology.transport.control, Identity("fake_score"), 0.05);
  EXPECT_TRUE(waits_for(""));
  generator->Send(Sample(0));
  EXPECT_TRUE(waits_for("a teacher, of which there is none; 1 micro-batches are to be scored"));
}

TEST_F(BrokerLivenessTest, ASilentTeacherLosesItsLeaseUntilItIsHeardAgain) {
  plan_.topology.transport.silence_seconds = 0.5;
  Start();
  const Heartbeat beats_of_generator(plan_.topology.transport.control, Identity("generator"), 0.05);
  const auto generator = Join("generator"), teacher = Join("teacher.0");
  teacher->Send(Credit(2));
  generator->Send(Sample(0));
  const auto first = teacher->Receive(kSoon);
  ASSERT_TRUE(first);
  ASSERT_TRUE(StatusBecomes([](const nlohmann::json& s) { return s["queued"] == 1 && s["in_flight"] == 0; }));
  const Heartbeat beats_again(plan_.topology.transport.control, Identity("teacher.0"), 0.05);
  const auto second = teacher->Receive(kSoon);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->request_id, first->request_id);
  EXPECT_EQ(second->attempt, 2U);
}

}  // namespace
}  // namespace sgmd
