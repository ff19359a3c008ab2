// What every endpoint must do, whatever carries it: each case runs over ipc and over loopback tcp.
#include <gmock/gmock.h>

#include <sys/un.h>

#include <thread>

#include "common/error/error.h"
#include "common/failpoint/failpoint.h"
#include "common/transport/socket.h"
#include "tests/common/transport_fixture.h"
#include "tests/support/error_of.h"

namespace sgmd {
namespace {

using testing::FloatFrame;
using ::testing::HasSubstr;
using testing::Identity;
using testing::Join;
using testing::kSoon;
using testing::Message;
using testing::Next;
constexpr std::chrono::milliseconds kBriefly{100};

class TransportTest : public ::testing::TestWithParam<const char*> {
 protected:
  std::string MakeEndpoint() const {
    if (std::string(GetParam()) == "tcp") return StrCat("tcp://127.0.0.1:", FreePort());
    return "ipc://" + (folder_.path() / "data.ipc").string();
  }

  // A peer that speaks ZeroMQ but not the protocol.
  zmq::socket_t RawPeer() const {
    zmq::socket_t socket = MakeSocket(zmq::socket_type::dealer);
    socket.connect(endpoint_);
    return socket;
  }

  TempFolder folder_;
  std::string endpoint_ = MakeEndpoint();
};

TEST_P(TransportTest, HelloIsStampedAndWelcomed) {
  Server server(endpoint_);
  std::optional<Server::Incoming> hello;
  const auto client = Join(server, endpoint_, "teacher.3", Message(wire::Kind::Welcome), &hello);
  ASSERT_TRUE(hello);
  EXPECT_EQ(hello->envelope.kind, wire::Kind::Hello);
  EXPECT_EQ(hello->envelope.node, "teacher.3");
  EXPECT_EQ(hello->envelope.run_id, testing::kRun);
  EXPECT_EQ(hello->envelope.epoch, testing::kEpoch);
  EXPECT_NE(hello->envelope.process, 0u);
}

TEST_P(TransportTest, RefusalIsAnErrorWithTheBrokersWords) {
  Server server(endpoint_);
  Envelope refused = Message(wire::Kind::Refused);
  refused.epoch = 99;  // a refusal comes from another epoch more often than not
  refused.text = "wrong digest";
  EXPECT_THAT(ErrorOf([&] { Join(server, endpoint_, "teacher.0", refused); }), HasSubstr("wrong digest"));
}

TEST_P(TransportTest, NoBrokerIsAnErrorAfterPatience) {
  EXPECT_THAT(ErrorOf([&] { Client(endpoint_, Identity("generator"), {}, kBriefly); }), HasSubstr("does not answer"));
}

TEST_P(TransportTest, ClientMayStartBeforeTheServer) {
  auto client = std::async(std::launch::async, [&] {
    return std::make_unique<Client>(endpoint_, Identity("generator"), Envelope{}, kSoon);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  Server server(endpoint_);
  const auto hello = Next(server);
  ASSERT_TRUE(hello);
  EXPECT_TRUE(server.Send(hello->pipe, Message(wire::Kind::Welcome)));
  EXPECT_NE(client.get(), nullptr);
}

TEST_P(TransportTest, WhatComesBeforeWelcomeIsSkipped) {
  Server server(endpoint_);
  auto client = std::async(std::launch::async, [&] {
    return std::make_unique<Client>(endpoint_, Identity("teacher.0"), Envelope{}, kSoon);
  });
  const auto hello = Next(server);
  ASSERT_TRUE(hello);
  EXPECT_TRUE(server.Send(hello->pipe, Message(wire::Kind::ScoreLease)));
  EXPECT_TRUE(server.Send(hello->pipe, Message(wire::Kind::Welcome)));
  EXPECT_FALSE(client.get()->Receive(kBriefly));
}

TEST_P(TransportTest, DeliversInOrderBothWays) {
  Server server(endpoint_);
  std::optional<Server::Incoming> hello;
  const auto client = Join(server, endpoint_, "generator", Message(wire::Kind::Welcome), &hello);
  for (std::int64_t i = 0; i < 500; ++i) {
    Envelope down = Message(wire::Kind::Gradient);
    down.step = i;
    EXPECT_TRUE(server.Send(hello->pipe, down));
    Envelope up;
    up.kind = wire::Kind::Sample;
    up.step = i;
    client->Send(up);
  }
  for (std::int64_t i = 0; i < 500; ++i) {
    const auto up = Next(server);
    const auto down = client->Receive(kSoon);
    ASSERT_TRUE(up && down);
    ASSERT_EQ(up->envelope.step, i);
    ASSERT_EQ(down->step, i);
  }
}

TEST_P(TransportTest, CarriesLargeAndEmptyTensorsBitwise) {
  Server server(endpoint_);
  std::optional<Server::Incoming> hello;
  const auto client = Join(server, endpoint_, "generator", Message(wire::Kind::Welcome), &hello);
  Envelope sample;
  sample.kind = wire::Kind::Sample;
  sample.tensors = {FloatFrame("x_s", {8 << 20}, 0.5f), FloatFrame("empty", {0}), FloatFrame("sigma", {1})};
  client->Send(sample);
  const auto up = Next(server);
  ASSERT_TRUE(up);
  EXPECT_TRUE(server.Send(hello->pipe, up->envelope));  // forwarded as received
  const auto down = client->Receive(kSoon);
  ASSERT_TRUE(down);
  const auto sent = sample.At("x_s").view.bytes, got = down->At("x_s").view.bytes;
  EXPECT_TRUE(std::equal(sent.begin(), sent.end(), got.begin(), got.end()));
  EXPECT_TRUE(down->At("empty").view.bytes.empty());
}

TEST_P(TransportTest, ReleasesWhatItHasSent) {
  Server server(endpoint_);
  std::optional<Server::Incoming> hello;
  const auto client = Join(server, endpoint_, "generator", Message(wire::Kind::Welcome), &hello);
  auto values = std::make_shared<std::vector<float>>(1 << 16);
  const std::weak_ptr<std::vector<float>> alive = values;
  Envelope sample;
  sample.kind = wire::Kind::Sample;
  sample.tensors.push_back({{"x_g", DType::kF32, {1 << 16}, std::as_bytes(std::span(*values))}, std::move(values)});
  client->Send(std::move(sample));
  ASSERT_TRUE(Next(server));
  EXPECT_FALSE(client->Receive(kBriefly));
  EXPECT_FALSE(alive.expired()) << "it is kept until the server says that it has it";
  Envelope receipt = Message(wire::Kind::Receipt);
  receipt.received = 1;
  EXPECT_TRUE(server.Send(hello->pipe, receipt));
  EXPECT_FALSE(client->Receive(kBriefly));
  for (int i = 0; i < 500 && !alive.expired(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(alive.expired());
}

TEST_P(TransportTest, LastWordsSurviveClosing) {
  Server server(endpoint_);
  auto client = Join(server, endpoint_, "generator");
  Envelope finished;
  finished.kind = wire::Kind::Finished;
  finished.tensors = {FloatFrame("x", {4 << 20})};
  client->Send(std::move(finished));
  client.reset();
  const auto incoming = Next(server);
  ASSERT_TRUE(incoming);
  EXPECT_EQ(incoming->envelope.kind, wire::Kind::Finished);
}

TEST_P(TransportTest, ServersLastWordsSurviveClosing) {
  auto server = std::make_unique<Server>(endpoint_);
  std::optional<Server::Incoming> hello;
  const auto client = Join(*server, endpoint_, "generator", Message(wire::Kind::Welcome), &hello);
  EXPECT_TRUE(server->Send(hello->pipe, Message(wire::Kind::Close)));
  server.reset();
  const auto close = client->Receive(kSoon);
  ASSERT_TRUE(close);
  EXPECT_EQ(close->kind, wire::Kind::Close);
}

TEST_P(TransportTest, DropsMessagesOfAnotherRunOrEpoch) {
  Server server(endpoint_);
  std::optional<Server::Incoming> hello;
  const auto client = Join(server, endpoint_, "generator", Message(wire::Kind::Welcome), &hello);
  Envelope other_run = Message(wire::Kind::Gradient), other_epoch = other_run, mine = other_run;
  other_run.run_id.lo ^= 1;
  other_epoch.epoch += 1;
  mine.step = 42;
  for (const Envelope& e : {other_run, other_epoch, mine}) EXPECT_TRUE(server.Send(hello->pipe, e));
  const auto got = client->Receive(kSoon);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->step, 42);
  EXPECT_FALSE(client->Receive(kBriefly));
}

TEST_P(TransportTest, FailedIsThrownWithItsText) {
  Server server(endpoint_);
  std::optional<Server::Incoming> hello;
  const auto client = Join(server, endpoint_, "generator", Message(wire::Kind::Welcome), &hello);
  Envelope failed = Message(wire::Kind::Failed);
  failed.text = "fake_score is silent";
  EXPECT_TRUE(server.Send(hello->pipe, failed));
  EXPECT_THAT(ErrorOf([&] { client->Receive(kSoon); }), HasSubstr("fake_score is silent"));
}

TEST_P(TransportTest, SendingToNobodyIsFalse) {
  Server server(endpoint_);
  EXPECT_FALSE(server.Send("teacher.9", Message(wire::Kind::Close)));
}

TEST_P(TransportTest, MalformedMessagesAreCountedAndDropped) {
  Server server(endpoint_);
  zmq::socket_t peer = RawPeer();
  Envelope good = Message(wire::Kind::Credit, "teacher.0");
  const auto header = EncodeHeader(good);
  peer.send(zmq::message_t(), zmq::send_flags::none);                               // an empty frame
  peer.send(zmq::str_buffer("\x00\x01garbage"), zmq::send_flags::none);             // no flatbuffer
  peer.send(zmq::buffer(header.data(), header.size() / 2), zmq::send_flags::none);  // half a header
  peer.send(zmq::buffer(header.data(), header.size()), zmq::send_flags::sndmore);   // a frame too many
  peer.send(zmq::str_buffer("tail"), zmq::send_flags::none);
  for (int i = 0; i < 100; ++i) peer.send(zmq::message_t(), i < 99 ? zmq::send_flags::sndmore : zmq::send_flags::none);
  EXPECT_TRUE(SendEnvelope(peer, {}, good));
  const auto incoming = Next(server);
  ASSERT_TRUE(incoming);
  EXPECT_EQ(incoming->envelope.kind, wire::Kind::Credit);
  EXPECT_EQ(server.malformed(), 5);
}

TEST_P(TransportTest, ClientSkipsMalformedMessages) {
  zmq::socket_t router = MakeSocket(zmq::socket_type::router);
  router.bind(endpoint_);
  auto client = std::async(std::launch::async, [&] {
    return std::make_unique<Client>(endpoint_, Identity("generator"), Envelope{}, kSoon);
  });
  zmq::message_t part;
  ASSERT_TRUE(router.recv(part));
  const std::string pipe = part.to_string();
  while (part.more()) ASSERT_TRUE(router.recv(part));
  router.send(zmq::buffer(pipe), zmq::send_flags::sndmore);
  router.send(zmq::str_buffer("garbage"), zmq::send_flags::none);
  EXPECT_TRUE(SendEnvelope(router, pipe, Message(wire::Kind::Welcome)));
  EXPECT_NE(client.get(), nullptr);
}

TEST_P(TransportTest, EndpointInUseIsAnErrorThatNamesIt) {
  Server server(endpoint_);
  EXPECT_THAT(ErrorOf([&] { Server second(endpoint_); }), HasSubstr(endpoint_));
  EXPECT_NE(Join(server, endpoint_, "generator"), nullptr) << "the first server must stay reachable";
}

TEST_P(TransportTest, ServerCanComeBackOnTheSameEndpoint) {
  { Server first(endpoint_); }
  Server second(endpoint_);
  EXPECT_NE(Join(second, endpoint_, "generator"), nullptr);
}

// A frame over the limit is refused before it is held: the connection ends, and the server goes on.
TEST_P(TransportTest, AFrameOverTheLimitIsNotRead) {
  Server server(endpoint_, nullptr, 1 << 16);
  zmq::socket_t peer = RawPeer();
  peer.send(zmq::message_t(1 << 20), zmq::send_flags::none);
  EXPECT_FALSE(Next(server, kBriefly));
  EXPECT_EQ(server.malformed(), 0);
  EXPECT_NE(Join(server, endpoint_, "generator"), nullptr);
}

// A client is on the channel that its identity says, whatever its name.
TEST_P(TransportTest, FailpointsOfTheControlSocketAreOfItsClientsAlone) {
  Server server(endpoint_);
  NodeIdentity on_control = Identity("teacher.0");
  on_control.channel = Channel::kControl;
  const auto control = Join(server, endpoint_, on_control), data = Join(server, endpoint_, "launcher");
  ::setenv("SGMD_FAILPOINTS", "control.send.StatusRequest=drop", 1);
  failpoint::SetProcess("test");
  control->Send(Message(wire::Kind::StatusRequest));
  data->Send(Message(wire::Kind::StatusRequest));
  const auto incoming = Next(server);
  EXPECT_FALSE(Next(server, kBriefly));
  ::unsetenv("SGMD_FAILPOINTS");
  failpoint::SetProcess("test");
  ASSERT_TRUE(incoming);
  EXPECT_EQ(incoming->envelope.node, "launcher");
}

INSTANTIATE_TEST_SUITE_P(Endpoints, TransportTest, ::testing::Values("ipc", "tcp"),
                         [](const auto& info) { return std::string(info.param); });

TEST(ServerTest, MalformedEndpointIsAnError) {
  EXPECT_THAT(ErrorOf([] { Server server("carrier-pigeon://loft"); }), HasSubstr("carrier-pigeon"));
}

// What a killed broker leaves behind: the socket's file without a process.
TEST(ServerTest, ReplacesAnIpcFileNobodyServes) {
  TempFolder folder;
  const auto path = folder.path() / "data.ipc";
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.string().copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  close(fd);
  ASSERT_TRUE(std::filesystem::exists(path));
  Server server("ipc://" + path.string());
  EXPECT_NE(Join(server, "ipc://" + path.string(), "generator"), nullptr);
}

}  // namespace
}  // namespace sgmd
