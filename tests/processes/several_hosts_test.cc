// A run over two hosts: two launchers, encrypted, over an address off loopback where a network namespace can give one.
// The weights are those of one host, whoever starts first, dies or comes back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
#include "tests/support/free_port.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr double kPatience = 120;

// [transport] of a topology, at the end of it.
std::string Transport() {
  const bool off_loopback = FreePort("10.77.0.1") != 0;
  const char* address = off_loopback ? "10.77.0.1" : "127.0.0.1";
  return StrCat("[cache]\nfolder = \"cache\"\n[transport]\ndata = \"tcp://", address, ":", FreePort(address),
                "\"\ncontrol = \"tcp://", address, ":", FreePort(address), "\"\nsilence_seconds = 4\n",
                off_loopback ? "" : "encrypt = true\n");
}

class SeveralHosts : public testing::Test {
 protected:
  // Hosts a and b; `placement` lines say which roles are on b.
  void Make(std::int64_t steps, const std::string& placement) {
    run_ = std::make_unique<TinyRun>(steps, "", placement + Transport());
    const std::string topology = run_->topology().string();
    ASSERT_EQ(std::system(("sed -i '/^folder = \"run\"/a hosts = [\"a\", \"b\"]' " + topology).c_str()), 0);
  }
  Process Up(const char* host) { return run_->Launch({"up", run_->topology(), "--host", host}); }
  // Until the output of `process` has `text`.
  static bool Says(const Process& process, const std::string& text) {
    for (int i = 0; i < 6000 && process.Output().find(text) == std::string::npos; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return process.Output().find(text) != std::string::npos;
  }
  void ExpectSerialWeights() { EXPECT_EQ(TinyRun::NewestState(run_->run()), run_->SerialState()); }

  std::unique_ptr<TinyRun> run_;
};

constexpr char kTeachersOnBoth[] = "[teacher]\nreplicas = 2\nhosts = [\"a\", \"b\"]\n";
constexpr char kTeachersOnB[] = "[teacher]\nreplicas = 2\nhosts = [\"b\"]\n";

TEST_F(SeveralHosts, GiveTheWeightsOfOneAndEndTogether) {
  Make(12, kTeachersOnB);
  const Process b = Up("b");
  ASSERT_TRUE(Says(b, "waiting for host a")) << b.Output();
  const Process a = Up("a");
  ASSERT_EQ(a.Wait(kPatience), 0) << a.Output();
  ASSERT_EQ(b.Wait(30), 0) << b.Output();
  EXPECT_THAT(a.Output(), Not(HasSubstr("teacher.0   |")));
  EXPECT_THAT(b.Output(), HasSubstr("teacher.1   |"));
  EXPECT_THAT(a.Output(), HasSubstr(", encrypted, cache"));
  ExpectSerialWeights();
}

TEST_F(SeveralHosts, TrainedRolesMayBeOnDifferentOnes) {
  Make(12, StrCat("[fake_score]\nhost = \"b\"\n", kTeachersOnBoth));
  const Process a = Up("a"), b = Up("b");
  ASSERT_EQ(a.Wait(kPatience), 0) << a.Output() << b.Output();
  ASSERT_EQ(b.Wait(30), 0) << b.Output();
  EXPECT_THAT(b.Output(), HasSubstr("fake_score  |"));
  ExpectSerialWeights();
}

TEST_F(SeveralHosts, OneOfTeachersThatIsKilledChangesNothing) {
  Make(100, kTeachersOnBoth);
  const Process a = Up("a"), b = Up("b");
  ASSERT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << a.Output();
  ASSERT_TRUE(Says(b, "ready on")) << b.Output();
  ::kill(b.pid, SIGKILL);  // and with it its teacher
  EXPECT_EQ(b.Wait(kPatience), 128 + SIGKILL);
  ASSERT_EQ(a.Wait(kPatience), 0) << a.Output();
  ExpectSerialWeights();
}

TEST_F(SeveralHosts, ATeacherThatIsKilledIsStartedAgainWhereItWas) {
  Make(100, kTeachersOnBoth);
  const Process a = Up("a"), b = Up("b");
  ASSERT_TRUE(Says(b, "ready on")) << b.Output();
  ASSERT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << a.Output();
  ASSERT_TRUE(run_->Kill("teacher.1"));
  ASSERT_EQ(a.Wait(kPatience), 0) << a.Output();
  ASSERT_EQ(b.Wait(30), 0) << b.Output();
  EXPECT_THAT(b.Output(), HasSubstr("teacher.1 ended by signal 9"));
  ExpectSerialWeights();
}

TEST_F(SeveralHosts, WaitForTheHeadThatWasKilledAndGoOnWithIt) {
  Make(100, kTeachersOnB);
  const Process a = Up("a"), b = Up("b");
  ASSERT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << a.Output();
  ::kill(a.pid, SIGKILL);
  EXPECT_EQ(a.Wait(kPatience), 128 + SIGKILL);
  ASSERT_TRUE(Says(b, "the broker does not answer")) << b.Output();
  const Process again = Up("a");
  ASSERT_EQ(again.Wait(kPatience), 0) << again.Output();
  ASSERT_EQ(b.Wait(30), 0) << b.Output();
  EXPECT_THAT(again.Output(), HasSubstr("resuming at step"));
  EXPECT_THAT(b.Output(), HasSubstr("joined host a, start 2"));
  ExpectSerialWeights();
}

TEST_F(SeveralHosts, RestartTogetherWhenARoleThatTheRunNeedsDies) {
  Make(100, StrCat("[fake_score]\nhost = \"b\"\n", kTeachersOnBoth));
  const Process a = Up("a"), b = Up("b");
  ASSERT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << a.Output();
  ASSERT_TRUE(run_->Kill("sgmd-fake-score"));
  ASSERT_EQ(a.Wait(kPatience), kExitFinished) << a.Output() << b.Output();
  EXPECT_THAT(a.Output(), HasSubstr("fake_score ended on b by signal 9 (Killed)"));
  EXPECT_EQ(b.Wait(30), kExitFinished) << b.Output();
  EXPECT_THAT(b.Output(), HasSubstr("joined host a, start 2"));
  ExpectSerialWeights();
}

TEST_F(SeveralHosts, GoBackTogetherToTheLastCheckpoint) {
  Make(40, StrCat("[fake_score]\nhost = \"b\"\n", kTeachersOnBoth));
  const std::string experiment = (run_->folder() / "experiment.toml").string();
  ASSERT_EQ(std::system(("sed -i 's/^learning_rate = .*/learning_rate = 1e30/' " + experiment).c_str()), 0);
  const Process a = Up("a"), b = Up("b");
  EXPECT_EQ(a.Wait(kPatience), kExitFailed) << a.Output();
  EXPECT_THAT(a.Output(), HasSubstr("going back to the last checkpoint with new draws (2 of 2)"));
  EXPECT_EQ(b.Wait(30), kExitFailed) << b.Output();
  EXPECT_THAT(b.Output(), HasSubstr("joined host a, start 3"));
}

TEST_F(SeveralHosts, ScaleAndDrainTogether) {
  Make(4000, kTeachersOnBoth);
  const Process a = Up("a"), b = Up("b");
  ASSERT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << a.Output();
  ASSERT_TRUE(Says(b, "ready on")) << b.Output();
  EXPECT_EQ(run_->Launch({"scale", run_->topology(), "teacher=4"}).Wait(30), 0);
  EXPECT_TRUE(Says(a, "teacher.2   |")) << a.Output();
  EXPECT_TRUE(Says(b, "teacher.3   |")) << b.Output();
  EXPECT_THAT(a.Output(), Not(HasSubstr("teacher.3   |")));
  const Process status = run_->Launch({"status", run_->topology()});
  EXPECT_EQ(status.Wait(30), 0) << status.Output();
  EXPECT_THAT(status.Output(), HasSubstr("teacher.3"));
  ::kill(b.pid, SIGINT);  // on any host
  EXPECT_EQ(a.Wait(kPatience), kExitDrained) << a.Output();
  EXPECT_EQ(b.Wait(30), kExitDrained) << b.Output();
  EXPECT_THAT(a.Output(), HasSubstr("drained at step"));
}

TEST_F(SeveralHosts, EachMayBeUpOnceAndMustBeOfTheTopology) {
  Make(2000, kTeachersOnBoth);
  const Process nameless = run_->Launch({"up", run_->topology()});
  EXPECT_EQ(nameless.Wait(30), kExitRefused);
  EXPECT_THAT(nameless.Output(), HasSubstr("--host, one of: a, b"));
  EXPECT_EQ(Up("c").Wait(30), kExitRefused);
  const Process b = Up("b");
  ASSERT_TRUE(Says(b, "waiting for host a"));
  const Process second = Up("b");
  EXPECT_EQ(second.Wait(30), kExitRefused);
  EXPECT_THAT(second.Output(), HasSubstr("already up in this folder, by process " + std::to_string(b.pid)));
  ::kill(b.pid, SIGINT);
  EXPECT_EQ(b.Wait(30), kExitKilled);
}

// The lock's text says which machine holds the run: here, by the test's word, another than this one.
TEST_F(SeveralHosts, TheRunIsEndedFromAMachineThatIsNotTheHead) {
  Make(4000, kTeachersOnBoth);
  const Process a = Up("a"), b = Up("b");
  ASSERT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << a.Output();
  std::ofstream(run_->run() / ".lock") << "1 on elsewhere";
  const Process now = run_->Launch({"down", run_->topology(), "--now"});
  EXPECT_EQ(now.Wait(30), 1);
  EXPECT_THAT(now.Output(), HasSubstr("the run is up on elsewhere"));
  const Process down = run_->Launch({"down", run_->topology()});
  EXPECT_EQ(down.Wait(kPatience), 0) << down.Output();
  EXPECT_EQ(a.Wait(kPatience), kExitDrained) << a.Output();
  EXPECT_EQ(b.Wait(30), kExitDrained) << b.Output();
}

TEST_F(SeveralHosts, AreReplayedByOne) {
  Make(12, StrCat("[fake_score]\nhost = \"b\"\n", kTeachersOnBoth));
  const Process a = Up("a"), b = Up("b");
  ASSERT_EQ(a.Wait(kPatience), 0) << a.Output();
  ASSERT_EQ(b.Wait(30), 0) << b.Output();
  const Process replay = run_->Launch({"replay", run_->topology()});
  ASSERT_EQ(replay.Wait(kPatience), 0) << replay.Output();
  EXPECT_EQ(TinyRun::NewestState(run_->run().string() + "-replay"), TinyRun::NewestState(run_->run()));
}

TEST_F(SeveralHosts, EndWhenTheHeadKillsTheRun) {
  Make(4000, kTeachersOnBoth);
  const Process a = Up("a"), b = Up("b");
  ASSERT_TRUE(run_->WaitForCheckpoint(5, kPatience)) << a.Output();
  ASSERT_TRUE(Says(b, "ready on")) << b.Output();
  EXPECT_EQ(run_->Launch({"down", run_->topology(), "--now"}).Wait(30), 0);
  EXPECT_EQ(a.Wait(30), kExitKilled) << a.Output();
  EXPECT_EQ(b.Wait(30), kExitKilled) << b.Output();
  EXPECT_TRUE(run_->Pids("--epoch").empty());
}

TEST_F(SeveralHosts, RefuseKeysThatOthersMayRead) {
  Make(4, kTeachersOnBoth);
  const Process first = Up("a");
  ASSERT_TRUE(Says(first, "serving on")) << first.Output();
  const auto keys = run_->run() / "keys";
  namespace fs = std::filesystem;
  EXPECT_EQ(fs::status(keys).permissions(), fs::perms::owner_all);
  fs::permissions(keys / "launcher@b.secret", fs::perms(0640));
  const Process b = Up("b");
  EXPECT_EQ(b.Wait(30), 1);
  EXPECT_THAT(b.Output(), HasSubstr("chmod 600"));
}

}  // namespace
}  // namespace sgmd
