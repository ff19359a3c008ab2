// Signals of schedulers, terminals and impatient people.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
#include "launch/run/run_history.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr double kPatience = 120;

void ExpectGoesOnToSerialWeights(TinyRun& run) {
  const Process again = run.Launch({"up", run.topology()});
  ASSERT_EQ(again.Wait(kPatience), kExitFinished) << again.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

// As a cgroup or Slurm does it: the same signal to every process, in whatever order.
class DrainOfAll : public testing::TestWithParam<bool> {};

TEST_P(DrainOfAll, ProcessesAtOnceEndsInACheckpoint) {
  const bool launcher_too = GetParam();
  TinyRun run(100, "", "[teacher]\nreplicas = 2\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  std::vector<pid_t> all = run.Pids("--epoch");
  ASSERT_EQ(all.size(), 5U);
  if (launcher_too) all.push_back(up.pid);
  for (const pid_t pid : all) ::kill(pid, SIGTERM);
  EXPECT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("drained at step"));
  EXPECT_THAT(up.Output(), Not(HasSubstr("signal 15")));
  EXPECT_EQ(LastOutcome(run.run())->outcome, Outcome::kDrained);
  EXPECT_TRUE(run.Pids("--epoch").empty());
  ExpectGoesOnToSerialWeights(run);
}

INSTANTIATE_TEST_SUITE_P(Stop, DrainOfAll, testing::Bool(),
                         [](const auto& info) { return info.param ? "AndTheLauncher" : "WithoutTheLauncher"; });

TEST(Stop, BeforeAnythingIsReadyDrainsToo) {
  TinyRun run(100);
  const Process up = run.Launch({"up", run.topology()});
  while (run.Pids("sgmd-generator").empty()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  for (const pid_t pid : run.Pids("--epoch")) ::kill(pid, SIGTERM);
  ::kill(up.pid, SIGTERM);
  EXPECT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
  EXPECT_THAT(up.Output(), Not(HasSubstr("signal 15")));
  ExpectGoesOnToSerialWeights(run);
}

TEST(Stop, TwoDownsDoNotKill) {
  TinyRun run(100000);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  const pid_t teacher = run.Pids("sgmd-teacher").at(0);
  ::kill(teacher, SIGSTOP);  // the drain takes a while
  const Process first = run.Launch({"down", run.topology()}), second = run.Launch({"down", run.topology()});
  std::this_thread::sleep_for(std::chrono::seconds(2));
  ::kill(up.pid, SIGTERM);
  ::kill(up.pid, SIGINT);  // one Ctrl-C is none too many
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  ::kill(teacher, SIGCONT);
  EXPECT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
  EXPECT_EQ(first.Wait(30), 0) << first.Output();
  EXPECT_EQ(second.Wait(30), 0) << second.Output();
}

TEST(Stop, ASecondInterruptKills) {
  TinyRun run(100000);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  for (const pid_t teacher : run.Pids("sgmd-teacher")) ::kill(teacher, SIGSTOP);  // it would drain before the second
  ::kill(up.pid, SIGINT);
  std::this_thread::sleep_for(std::chrono::seconds(1));
  ::kill(up.pid, SIGINT);
  EXPECT_EQ(up.Wait(10), kExitKilled) << up.Output();
  EXPECT_EQ(LastOutcome(run.run())->outcome, Outcome::kKilled);
  EXPECT_TRUE(run.Pids("--epoch").empty());
}

TEST(Stop, DownNowKillsAtOnce) {
  TinyRun run(100000);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  EXPECT_EQ(run.Launch({"down", run.topology(), "--now"}).Wait(30), 0);
  EXPECT_EQ(up.Wait(10), kExitKilled) << up.Output();
}

// As an ssh connection that drops: the terminal's master end is closed, and the kernel sends SIGHUP.
TEST(Stop, GoesOnWhenItsTerminalGoes) {
  TinyRun run(60);
  int terminal = -1;
  Process up;
  up.pid = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  if (up.pid == 0) {
    ::execl(SGMD_BIN_DIR "/sgmd-launch", "sgmd-launch", "up", run.topology().c_str(), nullptr);
    ::_exit(127);
  }
  std::thread reader([terminal] {
    char block[4096];
    for (int i = 0; i < 10 && ::read(terminal, block, sizeof block) > 0; ++i) {
    }
    ::close(terminal);
  });
  reader.join();
  EXPECT_EQ(up.Wait(kPatience), kExitFinished);
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  const std::string log = ReadFile(RunFolder{run.run()}.Logs() / "launch.log");
  EXPECT_THAT(log, HasSubstr(" I student in " + run.run().string())) << "what nobody could see is in the log";
}

TEST(Stop, GoesOnWhenNobodyReadsItsOutput) {
  TinyRun run(40);
  const std::string up = std::string(SGMD_BIN_DIR) + "/sgmd-launch up " + run.topology().string();
  const Process piped = run.Start({"/bin/bash", "-c", up + " | head -1; exit ${PIPESTATUS[0]}"});
  EXPECT_EQ(piped.Wait(kPatience), kExitFinished) << piped.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

}  // namespace
}  // namespace sgmd
