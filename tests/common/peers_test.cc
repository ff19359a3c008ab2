// Client and Peers together over connections that break, lose, double and change.
#include "common/transport/peers.h"

#include <gmock/gmock.h>

#include <thread>

#include "tests/common/transport_fixture.h"
#include "tests/support/error_of.h"

namespace sgmd {
namespace {

using testing::Identity;
using testing::kSoon;
using testing::Message;
constexpr std::chrono::milliseconds kBriefly{200};

Envelope Step(wire::Kind kind, std::int64_t step) {
  Envelope e;
  e.kind = kind;
  e.step = step;
  return e;
}

// A connection between a client and the server that a test can harm: it passes messages on frame by frame.
class Relay {
 public:
  enum class Harm { kNone, kDrop, kDouble, kHold };

  Relay(const std::string& front, const std::string& back)
      : front_(MakeSocket(zmq::socket_type::router)),
        back_(MakeSocket(zmq::socket_type::dealer)),
        back_endpoint_(back) {
    front_.bind(front);
    back_.connect(back);
    thread_ = std::thread([this] { Run(); });
  }
  ~Relay() {
    stop_ = true;
    thread_.join();
  }
  // What happens to the next `count` messages of `kind`, whichever way they go.
  void Next(wire::Kind kind, Harm harm, int count = 1) {
    const std::lock_guard lock(mutex_);
    for (; count > 0; --count) harms_.emplace(kind, harm);
  }
  // As when the peer was stopped for long: what is on its way is lost, and the server sees a new connection.
  void Reconnect() { reconnect_ = true; }
  bool harmed() const { return harms_done_ > 0; }

 private:
  void Run() {
    while (!stop_) {
      if (reconnect_.exchange(false)) {
        back_ = MakeSocket(zmq::socket_type::dealer);
        back_.connect(back_endpoint_);
      }
      bool busy = false;
      if (auto up = TryReceiveRaw(front_, true)) {
        pipe_ = up->pipe;
        Pass(back_, {}, *up);
        busy = true;
      }
      if (auto down = TryReceiveRaw(back_, false)) {
        Pass(front_, pipe_, *down);
        busy = true;
      }
      if (!busy) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  void Pass(zmq::socket_t& to, const std::string& pipe, RawMessage& raw) {
    const Envelope e = DecodeEnvelope(raw.header.bytes, std::move(raw.tensors));
    Harm harm = Harm::kNone;
    {
      const std::lock_guard lock(mutex_);
      if (const auto it = harms_.find(e.kind); it != harms_.end()) {
        harm = it->second;
        harms_.erase(it);
        ++harms_done_;
      }
    }
    if (harm == Harm::kDrop) return;
    if (harm == Harm::kHold) {
      held_ = e;
      return;
    }
    for (int copies = harm == Harm::kDouble ? 2 : 1; copies > 0; --copies) SendEnvelope(to, pipe, e);
    if (held_) SendEnvelope(to, pipe, *std::exchange(held_, std::nullopt));  // behind the one that came after it
  }

  zmq::socket_t front_, back_;
  std::string back_endpoint_, pipe_;
  std::mutex mutex_;
  std::multimap<wire::Kind, Harm> harms_;
  std::optional<Envelope> held_;
  std::atomic<int> harms_done_{0};
  std::atomic<bool> stop_{false}, reconnect_{false};
  std::thread thread_;
};

class PeersTest : public ::testing::Test {
 protected:
  PeersTest() {
    serving_ = std::thread([this] { Serve(); });
  }
  ~PeersTest() override {
    stop_ = true;
    serving_.join();
  }
  std::unique_ptr<Client> Join(const std::string& endpoint, const std::string& node = "generator") {
    return std::make_unique<Client>(endpoint, Identity(node), Envelope{}, kSoon);
  }
  // The steps that `client` receives until there are `count`, or nothing comes for five seconds.
  static std::vector<std::int64_t> Receive(Client& client, std::size_t count) {
    std::vector<std::int64_t> steps;
    while (steps.size() < count) {
      const auto got = client.Receive(kSoon);
      if (!got) break;
      steps.push_back(got->step);
    }
    return steps;
  }

  TempFolder folder_;
  std::string endpoint_ = "ipc://" + (folder_.path() / "data.ipc").string();
  std::string harmed_ = "ipc://" + (folder_.path() / "harmed.ipc").string();
  Server server_{endpoint_};

 private:
  // Answers a Sample by a Gradient of its step, as a broker's loop would.
  void Serve() {
    Peers peers(server_, Identity("broker"));
    while (!stop_) {
      Server::Wait({&server_}, std::chrono::milliseconds(20));
      while (const auto in = server_.TryReceive()) {
        const auto name = peers.Take(*in);
        if (!name) continue;
        if (in->envelope.kind == wire::Kind::Hello) {
          peers.Welcome(*in);
        } else {
          peers.Post(*name, Step(wire::Kind::Gradient, in->envelope.step));
        }
      }
      peers.Flush();
    }
  }
  std::atomic<bool> stop_{false};
  std::thread serving_;
};

struct Case {
  wire::Kind kind;
  Relay::Harm harm;
};

std::string NameOf(const Case& c) {
  constexpr const char* kHarms[] = {"None", "Dropped", "Doubled", "Reordered"};
  return std::string(wire::EnumNameKind(c.kind)) + kHarms[static_cast<int>(c.harm)];
}

class HarmedConnection : public PeersTest, public ::testing::WithParamInterface<Case> {};

TEST_P(HarmedConnection, DeliversEachMessageOnceAndInOrder) {
  Relay relay(harmed_, endpoint_);
  if (GetParam().kind == wire::Kind::Hello || GetParam().kind == wire::Kind::Welcome)
    relay.Next(GetParam().kind, GetParam().harm);
  const auto client = Join(harmed_);
  for (std::int64_t step = 0; step < 6; ++step) {
    if (step == 3) relay.Next(GetParam().kind, GetParam().harm);
    client->Send(Step(wire::Kind::Sample, step));
    EXPECT_THAT(Receive(*client, 1), ::testing::ElementsAre(step));
  }
  EXPECT_FALSE(client->Receive(kBriefly));
  EXPECT_TRUE(relay.harmed());
}

INSTANTIATE_TEST_SUITE_P(
    Arrows, HarmedConnection,
    ::testing::Values(Case{wire::Kind::Hello, Relay::Harm::kDrop}, Case{wire::Kind::Hello, Relay::Harm::kDouble},
                      Case{wire::Kind::Welcome, Relay::Harm::kDrop}, Case{wire::Kind::Welcome, Relay::Harm::kDouble},
                      Case{wire::Kind::Sample, Relay::Harm::kDrop}, Case{wire::Kind::Sample, Relay::Harm::kDouble},
                      Case{wire::Kind::Sample, Relay::Harm::kHold}, Case{wire::Kind::Gradient, Relay::Harm::kDrop},
                      Case{wire::Kind::Gradient, Relay::Harm::kDouble}, Case{wire::Kind::Gradient, Relay::Harm::kHold},
                      Case{wire::Kind::Receipt, Relay::Harm::kDrop}, Case{wire::Kind::Receipt, Relay::Harm::kDouble}),
    [](const auto& info) { return NameOf(info.param); });

TEST_F(PeersTest, NothingIsLostWhenTheConnectionChanges) {
  Relay relay(harmed_, endpoint_);
  const auto client = Join(harmed_);
  std::vector<std::int64_t> expected;
  for (std::int64_t step = 0; step < 40; ++step) {
    expected.push_back(step);
    client->Send(Step(wire::Kind::Sample, step));
    if (step % 10 == 5) relay.Reconnect();
  }
  EXPECT_EQ(Receive(*client, expected.size()), expected);
}

TEST_F(PeersTest, APeerThatOnlyListensIsFoundAgainAfterItsConnectionChanged) {
  Relay relay(harmed_, endpoint_);
  const auto client = Join(harmed_);
  relay.Next(wire::Kind::Gradient, Relay::Harm::kDrop, 2);
  client->Send(Step(wire::Kind::Sample, 1));
  EXPECT_FALSE(client->Receive(std::chrono::milliseconds(50)));
  relay.Reconnect();
  EXPECT_THAT(Receive(*client, 1), ::testing::ElementsAre(1)) << "its receipts say who it is and what it lacks";
}

TEST_F(PeersTest, ANewClientOfTheSameProcessBeginsAnew) {
  {
    const auto first = Join(endpoint_);
    first->Send(Step(wire::Kind::Sample, 1));
    EXPECT_THAT(Receive(*first, 1), ::testing::ElementsAre(1));
  }
  const auto second = Join(endpoint_);
  second->Send(Step(wire::Kind::Sample, 2));
  EXPECT_THAT(Receive(*second, 1), ::testing::ElementsAre(2));
}

TEST_F(PeersTest, AStrangerWhoDoesNotSayHelloIsNotDealtWith) {
  zmq::socket_t stranger = MakeSocket(zmq::socket_type::dealer);
  stranger.connect(endpoint_);
  Envelope sample = Message(wire::Kind::Sample, "generator");
  sample.number = 1;
  SendEnvelope(stranger, {}, sample);
  const auto client = Join(endpoint_);
  client->Send(Step(wire::Kind::Sample, 7));
  EXPECT_THAT(Receive(*client, 1), ::testing::ElementsAre(7));
  std::optional<RawMessage> answer;
  for (int i = 0; i < 100 && !answer; ++i) {
    answer = TryReceiveRaw(stranger, false);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_TRUE(answer);
  EXPECT_EQ(DecodeEnvelope(answer->header.bytes, {}).kind, wire::Kind::WhoAreYou);
}

}  // namespace
}  // namespace sgmd
