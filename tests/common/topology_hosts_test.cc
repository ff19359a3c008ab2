// Several hosts in a topology file: which process belongs where, and what is an error at which line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr char kTransport[] = "[transport]\ndata = \"tcp://10.77.0.1:5555\"\ncontrol = \"tcp://10.77.0.1:5556\"\n";
constexpr char kCache[] = "[cache]\nfolder = \"/var/tmp/c\"\n";

class TopologyHosts : public testing::Test {
 protected:
  // Lines 1 to 3 are [run], the hosts are in line 4, `rest` begins at line 5.
  Topology Read(const std::string& hosts, const std::string& rest) {
    WriteFileAtomically(folder_ / "e.toml", "");
    WriteFileAtomically(folder_ / "t.toml",
                        StrCat("[run]\nexperiment = \"e.toml\"\nfolder = \"run\"\n", hosts, "\n", rest));
    Topology topology = ReadTopology(folder_ / "t.toml");
    ResolveDefaults(topology);
    return topology;
  }
  std::string ErrorOf(const std::string& hosts, const std::string& rest) {
    try {
      Read(hosts, rest);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::string ErrorOf(const std::string& rest) { return ErrorOf("hosts = [\"a\", \"b\"]", rest + kCache + kTransport); }
  TempFolder folder_;
};

TEST_F(TopologyHosts, EachProcessHasItsPlaceAndTheRestIsOnTheHead) {
  const Topology t = Read("hosts = [\"a\", \"b\"]",
                          StrCat("[fake_score]\nhost = \"b\"\n[teacher]\nreplicas = 5\nhosts = [\"a\", \"b\", \"b\"]\n"
                                 "devices = [\"cuda:2\", \"cuda:0\", \"cuda:1\"]\n",
                                 kCache, kTransport));
  std::string places;
  for (const Placement& place : Placements({t, {}, {}, {}}))
    places += Spell(place.node) + " " + place.DeviceOfHost() + "\n";
  EXPECT_EQ(places,
            "broker a/cpu\ngenerator a/cpu\nfake_score b/cpu\nteacher.0 a/cuda:2\nteacher.1 b/cuda:0\n"
            "teacher.2 b/cuda:1\nteacher.3 a/cuda:2\nteacher.4 b/cuda:0\n");
  EXPECT_EQ(PlacementOf({t, {}, {}, {}}, {Role::kEvaluator}).host, "a");
  EXPECT_EQ(PlacementOf({t, {}, {}, {}}, {Role::kTeacher, 7}).host, "b") << "of a run that was scaled";
  EXPECT_TRUE(t.transport.encrypt);
  WriteFileAtomically(folder_ / "again.toml", ToToml(t));
  EXPECT_EQ(ToToml(ReadTopology(folder_ / "again.toml")), ToToml(t));
  EXPECT_EQ(PlacementOf({OnOneHost(t), {}, {}, {}}, {Role::kFakeScore}).host, "");
  EXPECT_THAT(OnOneHost(t).transport.data, testing::StartsWith("ipc://"));
  EXPECT_TRUE(OnOneHost(t).transport.encrypt) << "what was asked for is not dropped silently";
}

TEST_F(TopologyHosts, WithoutThemNothingIsNew) {
  const Topology t = Read("", "");
  EXPECT_EQ(HostsOf(t), std::vector<std::string>{""});
  EXPECT_EQ(PlacementOf({t, {}, {}, {}}, {Role::kTeacher, 3}).host, "");
  EXPECT_FALSE(t.transport.encrypt);
  EXPECT_EQ(t.cache.folder, folder_ / "run/cache");
}

TEST_F(TopologyHosts, UnknownOnesAreLocated) {
  EXPECT_THAT(ErrorOf("[generator]\nhost = \"c\"\n"),
              AllOf(HasSubstr("t.toml:6:8: unknown host \"c\""), HasSubstr("hosts are: a, b")));
  EXPECT_THAT(ErrorOf("[evaluator]\nhost = \"c\"\n"), HasSubstr("t.toml:6:8"));
  EXPECT_THAT(ErrorOf("[teacher]\nhosts = [\"a\", \"c\"]\n"), HasSubstr("t.toml:6:9: unknown host \"c\""));
  EXPECT_THAT(ErrorOf("", "[generator]\nhost = \"a\"\n"),
              AllOf(HasSubstr("t.toml:6:8"), HasSubstr("[run] hosts = [\"a\"")));
  EXPECT_THAT(ErrorOf("hosts = [\"a\", \"a\"]", ""), HasSubstr("t.toml:4:9: host \"a\" is named twice"));
  EXPECT_THAT(ErrorOf("hosts = [\"a b\"]", ""), HasSubstr("cannot be the name of a host"));
}

TEST_F(TopologyHosts, ADeviceHasOneRankOfAGroup) {
  EXPECT_THAT(ErrorOf("[generator]\ndevices = [\"cuda:0\", \"cuda:1\", \"cuda:0\"]\n"),
              AllOf(HasSubstr("t.toml:6:11: \"cuda:0\" is there twice"), HasSubstr("one rank for each device")));
  EXPECT_THAT(ErrorOf("[fake_score]\ndevices = [\"cuda\", \"cuda:0\"]\n"), HasSubstr("is there twice"));
  EXPECT_EQ(ErrorOf("[generator]\ndevices = [\"cpu\", \"cpu\"]\n"), "no error") << "a CPU has room for several";
  const Topology t = Read("", "[generator]\ndevices = [\"cuda:2\", \"cuda:3\"]\n");
  std::string places;
  for (const Placement& place : Placements({t, {}, {}, {}}))
    places += Spell(place.node) + " " + place.DeviceOfHost() + "\n";
  EXPECT_EQ(places, "broker cpu\ngenerator cuda:2\ngenerator/1 cuda:3\nfake_score cpu\nteacher.0 cpu\n");
}

TEST_F(TopologyHosts, AGroupOfTeacherRanksHasTheNextDevicesOfOneHost) {
  const std::string devices = "[teacher]\nranks = 2\ndevices = [\"cuda:0\", \"cuda:1\", \"cuda:0\", \"cuda:1\"]\n";
  const Topology t = Read("hosts = [\"a\", \"b\"]",
                          devices + "hosts = [\"a\", \"a\", \"b\", \"b\"]\nreplicas = 2\n" + kCache + kTransport);
  std::string places;
  for (const Placement& place : Placements({t, {}, {}, {}})) {
    if (place.node.role == Role::kTeacher) places += Spell(place.node) + " " + place.DeviceOfHost() + "\n";
  }
  EXPECT_EQ(places, "teacher.0 a/cuda:0\nteacher.0/1 a/cuda:1\nteacher.1 b/cuda:0\nteacher.1/1 b/cuda:1\n");
  EXPECT_EQ(UserOf({t, {}, {}, {}}, "teacher.1/1"), "teacher@b");
  EXPECT_THAT(ErrorOf(devices + "hosts = [\"a\", \"b\", \"a\", \"b\"]\n"),
              AllOf(HasSubstr("t.toml:8:9: a teacher's ranks would be on \"a\" and \"b\""),
                    HasSubstr("a group is on one host")));
  EXPECT_THAT(ErrorOf("[teacher]\nranks = 2\ndevices = [\"cuda:0\", \"cuda:1\", \"cuda:2\"]\n"),
              HasSubstr("t.toml:7:11: 3 devices are no multiple of \"ranks\" = 2"));
  EXPECT_THAT(ErrorOf("[teacher]\nranks = 2\ndevices = [\"cuda:0\", \"cuda\"]\n"),
              HasSubstr("t.toml:7:11: \"cuda\" is there twice"));
  EXPECT_THAT(ErrorOf("[teacher]\nranks = 2\ndevice = \"cuda\"\n"),
              HasSubstr("t.toml:6:9: 2 ranks cannot share \"cuda\""));
  EXPECT_EQ(ErrorOf("[teacher]\nranks = 2\n"), "no error") << "a CPU has room for several";
}

TEST_F(TopologyHosts, TeachersHaveAHostForEachDevice) {
  EXPECT_THAT(ErrorOf("[teacher]\nhosts = [\"a\", \"b\"]\ndevices = [\"cuda:0\"]\n"),
              AllOf(HasSubstr("t.toml:6:9: \"hosts\" names 2, \"devices\" 1"), HasSubstr("one host for each device")));
}

TEST_F(TopologyHosts, NeedTcpAndACacheOfTheHead) {
  const std::string hosts = "hosts = [\"a\", \"b\"]";
  EXPECT_THAT(ErrorOf(hosts, kCache),
              AllOf(HasSubstr("\"data\" must be a tcp:// endpoint"), HasSubstr("<address of a>")));
  EXPECT_THAT(ErrorOf(hosts, StrCat(kCache, "[transport]\ndata = \"ipc:///tmp/d\"\n")),
              HasSubstr("t.toml:8:8: with several hosts"));
  EXPECT_THAT(ErrorOf(hosts, StrCat(kCache, "[transport]\ndata = \"tcp://10.0.0.1:1\"\n")),
              HasSubstr("\"control\" must be a tcp://"));
  EXPECT_THAT(ErrorOf(hosts, kTransport),
              AllOf(HasSubstr("the cache needs a \"folder\""), HasSubstr("a disk of a's own")));
  EXPECT_EQ(ErrorOf(hosts, StrCat("[cache]\nenabled = false\n", kTransport)), "no error");
  EXPECT_EQ(ErrorOf("hosts = [\"a\"]", ""), "no error") << "one alone needs neither";
}

TEST_F(TopologyHosts, WhatOthersCanReachIsAlwaysEncrypted) {
  EXPECT_TRUE(Read("", kTransport).transport.encrypt);
  EXPECT_TRUE(Read("", "[transport]\ncontrol = \"tcp://node-7.cluster:5556\"\n").transport.encrypt);
  const std::string loopback = "[transport]\ndata = \"tcp://127.0.0.1:5555\"\n";
  EXPECT_TRUE(Read("", loopback).transport.encrypt) << "other users of the machine reach it";
  EXPECT_FALSE(Read("", loopback + "encrypt = false\n").transport.encrypt) << "where it is asked for by name";
  EXPECT_TRUE(Read("", "[transport]\nencrypt = true\n").transport.encrypt);
  EXPECT_THAT(ErrorOf("", StrCat(kTransport, "encrypt = false\n")),
              AllOf(HasSubstr("t.toml:8:11"), HasSubstr("always encrypted")));
  for (const char* nowhere : {"tcp://*:5555", "tcp://0.0.0.0:5555", "tcp://10.0.0.1", "udp://10.0.0.1:5"}) {
    EXPECT_THAT(ErrorOf("", StrCat("[transport]\ndata = \"", nowhere, "\"\n")),
                HasSubstr("the address that others connect to"))
        << nowhere;
  }
}

TEST_F(TopologyHosts, EndpointsMayHoldEnvironmentVariables) {
  ::unsetenv("SGMD_TEST_HEAD");
  const std::string fallback = "[transport]\ndata = \"tcp://${SGMD_TEST_HEAD:-10.0.0.9}:5555\"\n";
  EXPECT_EQ(Read("", fallback).transport.data, "tcp://10.0.0.9:5555");
  EXPECT_THAT(ErrorOf("", "[transport]\ndata = \"tcp://$SGMD_TEST_HEAD:5555\"\n"),
              HasSubstr("environment variable SGMD_TEST_HEAD is not set"));
  ::setenv("SGMD_TEST_HEAD", "10.0.0.7", 1);
  EXPECT_EQ(Read("", fallback).transport.data, "tcp://10.0.0.7:5555");
  EXPECT_EQ(Read("", "[transport]\ndata = \"tcp://$SGMD_TEST_HEAD:5555\"\n").transport.data, "tcp://10.0.0.7:5555");
  ::unsetenv("SGMD_TEST_HEAD");
}

}  // namespace
}  // namespace sgmd
