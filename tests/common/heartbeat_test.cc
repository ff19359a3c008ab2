#include "common/transport/heartbeat.h"

#include <gmock/gmock.h>

#include "common/metrics/work_count.h"
#include "tests/common/transport_fixture.h"

namespace sgmd {
namespace {

using testing::Identity;
using testing::Message;
using testing::Next;

class HeartbeatTest : public ::testing::Test {
 protected:
  // The first beat with `progress`, past those that were on their way before.
  std::optional<Envelope> BeatWithProgress(std::int64_t progress) {
    while (auto incoming = Next(server_)) {
      if (incoming->envelope.progress == before_ + progress) return incoming->envelope;
    }
    return {};
  }

  const std::int64_t before_ = WorkDone();  // the count is the process's
  TempFolder folder_;
  std::string endpoint_ = "ipc://" + (folder_.path() / "control.ipc").string();
  Server server_{endpoint_};
};

TEST_F(HeartbeatTest, BeatsCarryIdentityProgressAndLatestScalars) {
  Heartbeat heartbeat(endpoint_, Identity("generator"), 0.02);
  heartbeat.Report({{"step", 3}, {"loss", 0.5}});
  heartbeat.Report({{"step", 4}});
  CountWork();
  CountWork();
  const auto beat = BeatWithProgress(2);
  ASSERT_TRUE(beat);
  EXPECT_EQ(beat->kind, wire::Kind::Beat);
  EXPECT_EQ(beat->node, "generator");
  EXPECT_EQ(beat->epoch, testing::kEpoch);
  EXPECT_EQ(beat->scalars, (std::map<std::string, double>{{"step", 4}, {"loss", 0.5}}));
}

TEST_F(HeartbeatTest, NoticesDrainAndIgnoresTheRest) {
  Heartbeat heartbeat(endpoint_, Identity("generator"), 0.02);
  const auto beat = Next(server_);
  ASSERT_TRUE(beat);
  Envelope foreign = Message(wire::Kind::Drain);
  ++foreign.epoch;
  for (const Envelope& order : {Message(wire::Kind::Close), Message(wire::Kind::Failed), foreign}) {
    EXPECT_TRUE(server_.Send(beat->pipe, order));
  }
  CountWork();
  ASSERT_TRUE(BeatWithProgress(1));
  EXPECT_FALSE(heartbeat.drain_requested());
  EXPECT_TRUE(server_.Send(beat->pipe, Message(wire::Kind::Drain)));
  for (int i = 0; i < 250 && !heartbeat.drain_requested(); ++i) Next(server_);
  EXPECT_TRUE(heartbeat.drain_requested());
}

TEST_F(HeartbeatTest, SaysWhetherItsProcessWaits) {
  Heartbeat heartbeat(endpoint_, Identity("generator"), 0.02);
  const auto waits = [&] {
    for (int stale = 0; stale < 3; ++stale) Next(server_);
    return Next(server_)->envelope.numbers.at("waiting");
  };
  EXPECT_EQ(waits(), 0);
  {
    const Waiting waiting;
    EXPECT_EQ(waits(), 1);
  }
  EXPECT_EQ(waits(), 0);
}

TEST_F(HeartbeatTest, BeatsAtOnce) {
  const auto start = std::chrono::steady_clock::now();
  const Heartbeat heartbeat(endpoint_, Identity("generator"), 60);
  EXPECT_TRUE(Next(server_));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST_F(HeartbeatTest, EndsWithALastBeatAndWithoutWaiting) {
  const auto start = std::chrono::steady_clock::now();
  {
    Heartbeat heartbeat(endpoint_, Identity("teacher.0"), 60);
    CountWork();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_TRUE(BeatWithProgress(1));
}

TEST(HeartbeatAloneTest, EndsWhenThereWasNeverABroker) {
  TempFolder folder;
  const auto start = std::chrono::steady_clock::now();
  { Heartbeat heartbeat("ipc://" + (folder.path() / "nobody.ipc").string(), Identity("teacher.0"), 0.01); }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

}  // namespace
}  // namespace sgmd
