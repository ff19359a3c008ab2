// Who gets in: the run's key does, no other does, whatever carries the connection.
#include "common/transport/curve.h"

#include <gmock/gmock.h>
#include <fstream>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/transport/heartbeat.h"
#include "common/transport/socket.h"
#include "tests/common/transport_fixture.h"
#include "tests/support/error_of.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::FloatFrame;
using ::testing::HasSubstr;
using testing::Identity;
using testing::kSoon;
using testing::Message;
using testing::Next;
using ::testing::Not;
constexpr std::chrono::milliseconds kBriefly{500};

class CurveTest : public ::testing::TestWithParam<const char*> {
 protected:
  CurveTest() {
    MakeRunKeys(folder_ / "keys");
    MakeRunKeys(folder_ / "others");
  }
  NodeIdentity With(std::optional<ClientKeys> keys) const {
    NodeIdentity identity = Identity("generator");
    identity.keys = std::move(keys);
    return identity;
  }
  // A Client that gets what `server` answers, and what the server saw of it.
  std::string Join(Server& server, const std::optional<ClientKeys>& keys) const {
    auto client =
        std::async(std::launch::async, [&] { return ErrorOf([&] { Client(endpoint_, With(keys), {}, kBriefly); }); });
    if (const auto hello = Next(server, kBriefly)) server.Send(hello->peer, Message(wire::Kind::Welcome));
    return client.get();
  }
  std::string MakeEndpoint() const {
    if (std::string(GetParam()) == "tcp") return StrCat("tcp://127.0.0.1:", testing::FreePort());
    return "ipc://" + (folder_.path() / "data.ipc").string();
  }

  TempFolder folder_;
  std::string endpoint_ = MakeEndpoint();
};

TEST_P(CurveTest, TheRunsKeyGetsInAndTensorsArriveBitwise) {
  const CurveGate gate(LoadServerKeys(folder_ / "keys"));
  Server server(endpoint_, &gate);
  auto joining = std::async(std::launch::async, [&] {
    return std::make_unique<Client>(endpoint_, With(LoadClientKeys(folder_ / "keys")), Envelope{}, kSoon);
  });
  const auto hello = Next(server);
  ASSERT_TRUE(hello);
  EXPECT_EQ(hello->peer, "generator");
  server.Send(hello->peer, Message(wire::Kind::Welcome));
  const auto client = joining.get();
  Envelope sample;
  sample.kind = wire::Kind::Sample;
  sample.tensors = {FloatFrame("x_s", {1 << 20}, 0.5f)};
  client->Send(sample);
  const auto up = Next(server);
  ASSERT_TRUE(up);
  const auto sent = sample.At("x_s").view.bytes, got = up->envelope.At("x_s").view.bytes;
  EXPECT_TRUE(std::equal(sent.begin(), sent.end(), got.begin(), got.end()));
}

TEST_P(CurveTest, NoOtherKeyGetsInAndTheErrorSaysWhatToCheck) {
  const CurveGate gate(LoadServerKeys(folder_ / "keys"));
  Server server(endpoint_, &gate);
  const ClientKeys run = LoadClientKeys(folder_ / "keys"), other = LoadClientKeys(folder_ / "others");
  const auto refused =
      AllOf(HasSubstr("the broker does not answer"), HasSubstr(endpoint_), HasSubstr("keys/ in the run folder"));
  EXPECT_THAT(Join(server, ClientKeys{other.own, run.server_public}), refused) << "knows the broker, is not of the run";
  EXPECT_THAT(Join(server, ClientKeys{run.own, other.server_public}), refused) << "takes the broker for another";
  EXPECT_THAT(Join(server, other), refused);
  EXPECT_EQ(Join(server, run), "no error") << "the server must stay reachable";
}

TEST_P(CurveTest, AClientWithoutKeysGetsNoReply) {
  const CurveGate gate(LoadServerKeys(folder_ / "keys"));
  Server server(endpoint_, &gate);
  EXPECT_THAT(Join(server, {}), HasSubstr("does not answer"));
  zmq::socket_t stranger = MakeSocket(zmq::socket_type::dealer, "teacher.0");
  stranger.connect(endpoint_);
  SendEnvelope(stranger, {}, Message(wire::Kind::Hello));
  EXPECT_FALSE(Next(server, kBriefly));
  EXPECT_FALSE(TryReceiveRaw(stranger, false));
}

TEST_P(CurveTest, AClientWithKeysDoesNotTalkToAServerWithout) {
  Server server(endpoint_);
  EXPECT_THAT(Join(server, LoadClientKeys(folder_ / "keys")), HasSubstr("does not answer"));
}

// The domain is enforced: where nobody answers for the gate, nobody gets in, not even with the right key.
TEST_P(CurveTest, WithoutAHandlerNobodyGetsIn) {
  auto gate = std::make_unique<CurveGate>(LoadServerKeys(folder_ / "keys"));
  Server server(endpoint_, gate.get());
  gate.reset();
  EXPECT_THAT(Join(server, LoadClientKeys(folder_ / "keys")), HasSubstr("does not answer"));
}

TEST_P(CurveTest, BeatsNeedTheKeyToo) {
  const CurveGate gate(LoadServerKeys(folder_ / "keys"));
  Server server(endpoint_, &gate);
  {
    const Heartbeat stranger(endpoint_, Identity("generator"), 0.02);
    EXPECT_FALSE(Next(server, kBriefly));
  }
  const Heartbeat heartbeat(endpoint_, With(LoadClientKeys(folder_ / "keys")), 0.02);
  EXPECT_TRUE(Next(server));
}

INSTANTIATE_TEST_SUITE_P(Endpoints, CurveTest, ::testing::Values("ipc", "tcp"),
                         [](const auto& info) { return std::string(info.param); });

class RunKeys : public ::testing::Test {
 protected:
  RunKeys() { MakeRunKeys(keys_); }
  TempFolder folder_;
  fs::path keys_ = folder_ / "run/keys";
};

TEST_F(RunKeys, AreForTheirOwnerAloneAndStayAsTheyAre) {
  EXPECT_EQ(fs::status(keys_).permissions(), fs::perms::owner_all);
  for (const char* name : {"server.public", "server.secret", "client.public", "client.secret"}) {
    EXPECT_EQ(fs::status(keys_ / name).permissions(), fs::perms::owner_read | fs::perms::owner_write) << name;
    EXPECT_EQ(ReadFile(keys_ / name).size(), 40U) << name;
  }
  const std::string secret = ReadFile(keys_ / "client.secret");
  MakeRunKeys(keys_);
  EXPECT_EQ(ReadFile(keys_ / "client.secret"), secret);
  EXPECT_NE(ReadFile(keys_ / "server.secret"), secret);
}

TEST_F(RunKeys, ThatOthersMayReadAreRefusedWithTheCureAndWithoutTheKey) {
  const std::string secret = ReadFile(keys_ / "client.secret");
  fs::permissions(keys_ / "client.secret", fs::perms(0640));
  const std::string error = ErrorOf([&] { LoadClientKeys(keys_); });
  EXPECT_THAT(error, AllOf(HasSubstr("other users can read this key"),
                           HasSubstr("chmod 600 " + (keys_ / "client.secret").string())));
  EXPECT_THAT(error, Not(HasSubstr(secret)));
  EXPECT_EQ(ErrorOf([&] { LoadServerKeys(keys_); }), "no error") << "it needs no secret of clients";
}

TEST_F(RunKeys, ThatAreMissingOrNoKeysAreErrorsThatSayWhere) {
  fs::remove(keys_ / "server.public");
  EXPECT_THAT(ErrorOf([&] { LoadClientKeys(keys_); }),
              AllOf(HasSubstr("key is missing"), HasSubstr("server.public"), HasSubstr("sgmd-launch up")));
  std::ofstream(keys_ / "server.secret") << "short";
  fs::copy_file(keys_ / "client.public", keys_ / "server.public");
  EXPECT_THAT(ErrorOf([&] { LoadServerKeys(keys_); }), AllOf(HasSubstr("not a key"), Not(HasSubstr("short"))));
}

TEST(ServerAddress, ByNameIsBoundByNumber) {
  const std::string endpoint = StrCat("tcp://localhost:", testing::FreePort());
  Server server(endpoint);
  EXPECT_NE(testing::Join(server, endpoint, "generator"), nullptr);
}

TEST(ServerAddress, OfAnotherHostOrUnknownIsAnError) {
  EXPECT_THAT(ErrorOf([] { Server server("tcp://192.0.2.1:5555"); }),
              HasSubstr("this host does not have this address"));
  EXPECT_THAT(ErrorOf([] { Server server("tcp://nosuch.invalid:5555"); }),
              HasSubstr("no address of nosuch.invalid is known"));
}

}  // namespace
}  // namespace sgmd
