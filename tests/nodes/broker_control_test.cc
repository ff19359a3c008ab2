// What the control socket answers: status, scale, drain, what other hosts tell.
#include <cmath>

#include "common/metrics/work_count.h"
#include "common/transport/heartbeat.h"
#include "tests/nodes/broker_fixture.h"
#include "tests/support/free_port.h"

namespace sgmd {
namespace {

using std::chrono::milliseconds;

class BrokerControlTest : public BrokerFixture {};

TEST_F(BrokerControlTest, StatusMergesBeats) {
  Start();
  const auto generator = Join("generator");
  Heartbeat heartbeat(plan_.topology.transport.control, Identity("generator"), 0.05);
  heartbeat.Report({{"step", 4}, {"generator_loss", 0.5}, {"broken", std::nan("")}});
  CountWork();
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
  EXPECT_EQ(status["nodes"][0]["progress"], WorkDone());
}

// What `curl` would get.
std::string Page(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string text;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
    const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
    if (write(fd, request.data(), request.size()) > 0) {
      char block[4096];
      for (ssize_t size = 0; (size = read(fd, block, sizeof block)) > 0;)
        text.append(block, static_cast<std::size_t>(size));
    }
  }
  close(fd);
  return text;
}

TEST_F(BrokerControlTest, MetricsShowWhatTheStatusSays) {
  const int port = FreePort();
  plan_.topology.metrics.listen = StrCat("127.0.0.1:", port);
  Start();
  const auto generator = Join("generator");
  Heartbeat heartbeat(plan_.topology.transport.control, Identity("generator"), 0.05);
  heartbeat.Report({{"step", 4}, {"generator_loss", 0.5}});
  std::string page;
  for (int i = 0; i < 100 && page.find("sgmd_step 4") == std::string::npos; ++i) {
    std::this_thread::sleep_for(milliseconds(50));
    page = Page(port);
  }
  using testing::HasSubstr;
  EXPECT_THAT(page, HasSubstr("sgmd_step 4"));
  EXPECT_THAT(page, HasSubstr("sgmd_scalar{name=\"generator_loss\"} 0.5"));
  EXPECT_THAT(page, HasSubstr("sgmd_node_up{node=\"generator\",state=\"working\"} 1"));
  EXPECT_THAT(page, HasSubstr("sgmd_cache{name=\"misses\"} 0"));
}

TEST_F(BrokerControlTest, APortThatIsTakenStopsNoRun) {
  const int port = FreePort();
  plan_.topology.metrics.listen = StrCat("127.0.0.1:", port);
  const Server other(StrCat("tcp://127.0.0.1:", port));
  Start();
  EXPECT_EQ(Status(*Control("client.1"))["state"], "running");
}

TEST_F(BrokerControlTest, ScaleGoesToTheLauncher) {
  Start();
  const auto client = Control("client.1");
  const Envelope scale = ToEnvelope(message::Scale{3});
  client->Send(scale);
  auto answer = client->Receive(kSoon);
  ASSERT_TRUE(answer);
  EXPECT_EQ(FromEnvelope<message::Scaled>(*answer).problem, "no launcher is connected");
  const auto launcher = Control("launcher");
  client->Send(scale);
  const auto order = launcher->Receive(kSoon);
  answer = client->Receive(kSoon);
  ASSERT_TRUE(order && answer);
  EXPECT_EQ(FromEnvelope<message::Scale>(*order).teachers, 3);
  EXPECT_EQ(FromEnvelope<message::Scaled>(*answer).problem, "");
}

TEST_F(BrokerControlTest, DrainReachesAGeneratorThatIsNotThereYet) {
  Start();
  const auto launcher = Control("launcher");
  launcher->Send(ToEnvelope(message::Drain{}));
  EXPECT_EQ(Status(*launcher)["state"], "draining");
  const Heartbeat heartbeat(plan_.topology.transport.control, Identity("generator"), 0.05);
  for (int i = 0; i < 100 && !heartbeat.drain_requested(); ++i) std::this_thread::sleep_for(milliseconds(20));
  EXPECT_TRUE(heartbeat.drain_requested());
}

// A run of short steps would be over before the next beat.
TEST_F(BrokerControlTest, DrainIsHeardBetweenTwoBeats) {
  Start();
  const auto launcher = Control("launcher");
  const Heartbeat heartbeat(plan_.topology.transport.control, Identity("generator"), 2);
  const auto beats = [&] { return !Status(*launcher)["nodes"].empty(); };
  for (int i = 0; i < 250 && !beats(); ++i) std::this_thread::sleep_for(milliseconds(20));
  ASSERT_TRUE(beats());
  const auto ordered = std::chrono::steady_clock::now();
  launcher->Send(ToEnvelope(message::Drain{}));
  while (!heartbeat.drain_requested() && std::chrono::steady_clock::now() - ordered < milliseconds(5000))
    std::this_thread::sleep_for(milliseconds(5));
  EXPECT_LT(std::chrono::steady_clock::now() - ordered, milliseconds(1000));
}

TEST_F(BrokerControlTest, OrdersToScaleReachEveryHostAlsoOneThatComesLater) {
  plan_.topology.run.hosts = {"a", "b", "c"};
  Start();
  const auto head = Control("launcher"), host = Control("launcher.b"), person = Control("client.1");
  person->Send(ToEnvelope(message::Scale{5}));
  for (Client* launcher : {head.get(), host.get()}) {
    const auto order = launcher->Receive(kSoon);
    ASSERT_TRUE(order);
    EXPECT_EQ(FromEnvelope<message::Scale>(*order).teachers, 5);
  }
  const auto late = Control("launcher.c");
  const auto order = late->Receive(kSoon);
  ASSERT_TRUE(order);
  EXPECT_EQ(FromEnvelope<message::Scale>(*order).teachers, 5);
  EXPECT_FALSE(head->Receive(kBriefly));
}

TEST_F(BrokerControlTest, AFailureOnAnotherHostReachesTheLauncherOfThisOne) {
  plan_.topology.run.hosts = {"a", "b"};
  Start();
  const auto head = Control("launcher"), host = Control("launcher.b");
  host->Send(ToEnvelope(message::RoleFailed{"fake_score", "last words", 3, 0}));
  const auto told = head->Receive(kSoon);
  ASSERT_TRUE(told);
  const auto failure = FromEnvelope<message::RoleFailed>(*told);
  EXPECT_EQ(failure.node, "fake_score");
  EXPECT_EQ(failure.last_lines, "last words");
  EXPECT_EQ(failure.code, 3);
}

TEST_F(BrokerControlTest, OfAnEncryptedRunAnswersThoseWithItsKeyAlone) {
  const NodeIdentity with_token = Identity("client.1");
  plan_.topology.transport.encrypt = true;
  EXPECT_THAT(ErrorOf([&] { Start(); }), testing::HasSubstr("key is missing"));
  MakeRunKeys(Keys(), UsersOf(plan_), true);
  Start();
  EXPECT_THAT(ErrorOf([&] { Client(plan_.topology.transport.control, with_token, {}, kBriefly); }),
              testing::HasSubstr("does not answer"));
  const auto control = Control("client.1");
  EXPECT_EQ(Status(*control)["state"], "running");
}

}  // namespace
}  // namespace sgmd
