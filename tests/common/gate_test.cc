// Who gets in: who shows a key or the token of the run does, nobody else does, whatever carries the connection.
#include "common/transport/gate.h"

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
const std::vector<std::string> kUsers{"generator", "teacher@a", "teacher@b"};

struct Kind {
  const char* transport;
  bool encrypted;
};

class GateTest : public ::testing::TestWithParam<Kind> {
 protected:
  GateTest() {
    MakeRunKeys(folder_ / "keys", kUsers, encrypted());
    MakeRunKeys(folder_ / "others", kUsers, encrypted());
  }
  static bool encrypted() { return GetParam().encrypted; }
  GateKeys Keys() const { return LoadGateKeys(folder_ / "keys", kUsers, encrypted()); }
  Credentials Of(const std::string& user, const std::string& keys = "keys") const {
    return LoadCredentials(folder_ / keys, user, encrypted());
  }
  static NodeIdentity With(Credentials credentials) {
    NodeIdentity identity = Identity("generator");
    identity.credentials = std::move(credentials);
    return identity;
  }
  // What a Client says that gets what `server` answers, and whom the server saw.
  std::string Join(Server& server, const Credentials& credentials, std::string* user = nullptr) const {
    auto client = std::async(std::launch::async,
                             [&] { return ErrorOf([&] { Client(endpoint_, With(credentials), {}, kBriefly); }); });
    if (const auto hello = Next(server, kBriefly)) {
      if (user != nullptr) *user = hello->user;
      server.Send(hello->pipe, Message(wire::Kind::Welcome));
    }
    return client.get();
  }
  std::string MakeEndpoint() const {
    if (std::string(GetParam().transport) == "tcp") return StrCat("tcp://127.0.0.1:", FreePort());
    return "ipc://" + (folder_.path() / "data.ipc").string();
  }

  TempFolder folder_;
  std::string endpoint_ = MakeEndpoint();
};

TEST_P(GateTest, SaysWhoseCredentialsAMessageCameBy) {
  const Gate gate(Keys());
  Server server(endpoint_, &gate);
  for (const std::string& user : kUsers) {
    std::string seen;
    EXPECT_EQ(Join(server, Of(user), &seen), "no error");
    EXPECT_EQ(seen, user);
  }
}

TEST_P(GateTest, CarriesTensorsBitwise) {
  const Gate gate(Keys());
  Server server(endpoint_, &gate);
  auto joining = std::async(std::launch::async, [&] {
    return std::make_unique<Client>(endpoint_, With(Of("generator")), Envelope{}, kSoon);
  });
  const auto hello = Next(server);
  ASSERT_TRUE(hello);
  server.Send(hello->pipe, Message(wire::Kind::Welcome));
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

TEST_P(GateTest, NobodyElseGetsInAndTheErrorSaysWhatToCheck) {
  const Gate gate(Keys());
  Server server(endpoint_, &gate);
  const auto refused = AllOf(HasSubstr("the broker does not answer"), HasSubstr(endpoint_));
  EXPECT_THAT(Join(server, Of("generator", "others")), refused);
  if (encrypted()) {
    Credentials mixed = Of("generator", "others");
    mixed.server_public = Of("generator").server_public;
    EXPECT_THAT(Join(server, mixed), AllOf(refused, HasSubstr("keys/ in the run folder"))) << "knows the broker";
  }
  EXPECT_EQ(Join(server, Of("generator")), "no error") << "the server must stay reachable";
}

TEST_P(GateTest, AStrangerLearnsNothing) {
  const Gate gate(Keys());
  Server server(endpoint_, &gate);
  EXPECT_THAT(Join(server, {}), HasSubstr("does not answer"));
  zmq::socket_t stranger = MakeSocket(zmq::socket_type::dealer);
  stranger.connect(endpoint_);
  SendEnvelope(stranger, {}, Message(wire::Kind::Hello));
  EXPECT_FALSE(Next(server, kBriefly));
  EXPECT_FALSE(TryReceiveRaw(stranger, false));
}

TEST_P(GateTest, AClientWithCredentialsDoesNotTalkToAServerWithoutAGate) {
  Server server(endpoint_);
  EXPECT_THAT(Join(server, Of("generator")), HasSubstr("does not answer"));
}

// The domain is enforced: where nobody answers for the gate, nobody gets in, not even with the right key.
TEST_P(GateTest, WithoutAHandlerNobodyGetsIn) {
  auto gate = std::make_unique<Gate>(Keys());
  Server server(endpoint_, gate.get());
  gate.reset();
  EXPECT_THAT(Join(server, Of("generator")), HasSubstr("does not answer"));
}

TEST_P(GateTest, BeatsNeedCredentialsToo) {
  const Gate gate(Keys());
  Server server(endpoint_, &gate);
  {
    const Heartbeat stranger(endpoint_, Identity("generator"), 0.02);
    EXPECT_FALSE(Next(server, kBriefly));
  }
  const Heartbeat heartbeat(endpoint_, With(Of("generator")), 0.02);
  EXPECT_TRUE(Next(server));
}

INSTANTIATE_TEST_SUITE_P(Endpoints, GateTest,
                         ::testing::Values(Kind{"ipc", false}, Kind{"ipc", true}, Kind{"tcp", false},
                                           Kind{"tcp", true}),
                         [](const auto& info) {
                           return std::string(info.param.transport) + (info.param.encrypted ? "Encrypted" : "Token");
                         });

class RunKeys : public ::testing::Test {
 protected:
  RunKeys() {
    MakeRunKeys(keys_, kUsers, true);
    MakeRunKeys(keys_, kUsers, false);
  }
  TempFolder folder_;
  fs::path keys_ = folder_ / "run/keys";
};

TEST_F(RunKeys, AreForTheirOwnerAloneAndStayAsTheyAre) {
  EXPECT_EQ(fs::status(keys_).permissions(), fs::perms::owner_all);
  for (const char* name : {"server.public", "server.secret", "generator.public", "teacher@b.secret", "token"}) {
    EXPECT_EQ(fs::status(keys_ / name).permissions(), fs::perms::owner_read | fs::perms::owner_write) << name;
    EXPECT_EQ(ReadFile(keys_ / name).size(), std::string(name) == "token" ? 32U : 40U) << name;
  }
  const std::string secret = ReadFile(keys_ / "generator.secret"), token = ReadFile(keys_ / "token");
  MakeRunKeys(keys_, {"generator", "teacher@c"}, true);
  MakeRunKeys(keys_, {}, false);
  EXPECT_EQ(ReadFile(keys_ / "generator.secret"), secret);
  EXPECT_EQ(ReadFile(keys_ / "token"), token);
  EXPECT_NE(ReadFile(keys_ / "teacher@a.secret"), ReadFile(keys_ / "teacher@b.secret"));
  EXPECT_TRUE(fs::exists(keys_ / "teacher@c.secret")) << "a host that the topology gained";
}

TEST_F(RunKeys, AreAllOthersAfterARotation) {
  const std::string secret = ReadFile(keys_ / "generator.secret"), server = ReadFile(keys_ / "server.public");
  RotateRunKeys(keys_, kUsers, true);
  EXPECT_NE(ReadFile(keys_ / "generator.secret"), secret);
  EXPECT_NE(ReadFile(keys_ / "server.public"), server);
  EXPECT_FALSE(fs::exists(keys_ / "token")) << "an encrypted run has none";
  EXPECT_EQ(fs::status(keys_).permissions(), fs::perms::owner_all);
}

TEST_F(RunKeys, ThatOthersMayReadAreRefusedWithTheCureAndWithoutTheKey) {
  const std::string secret = ReadFile(keys_ / "generator.secret");
  fs::permissions(keys_ / "generator.secret", fs::perms(0640));
  const std::string error = ErrorOf([&] { LoadCredentials(keys_, "generator", true); });
  EXPECT_THAT(error, AllOf(HasSubstr("other users can read this key"),
                           HasSubstr("chmod 600 " + (keys_ / "generator.secret").string())));
  EXPECT_THAT(error, Not(HasSubstr(secret)));
  EXPECT_EQ(ErrorOf([&] { LoadGateKeys(keys_, kUsers, true); }), "no error") << "it needs no secret of clients";
}

TEST_F(RunKeys, ThatAreMissingOrNoKeysAreErrorsThatSayWhere) {
  fs::remove(keys_ / "server.public");
  EXPECT_THAT(ErrorOf([&] { LoadCredentials(keys_, "generator", true); }),
              AllOf(HasSubstr("key is missing"), HasSubstr("server.public"), HasSubstr("sgmd-launch up")));
  std::ofstream(keys_ / "server.secret") << "short";
  EXPECT_THAT(ErrorOf([&] { LoadGateKeys(keys_, kUsers, true); }),
              AllOf(HasSubstr("not a key"), Not(HasSubstr("short"))));
}

TEST(ServerAddress, AnIpcFileIsForItsOwnerAlone) {
  TempFolder folder;
  const fs::path path = folder / "sockets/data.ipc";
  Server server("ipc://" + path.string());
  EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(fs::status(path.parent_path()).permissions(), fs::perms::owner_all);
}

TEST(ServerAddress, ByNameIsBoundByNumber) {
  const std::string endpoint = StrCat("tcp://localhost:", FreePort());
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
