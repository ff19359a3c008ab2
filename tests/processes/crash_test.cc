// Kill -9 of anything, and the weights at the end are those of a calm run.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <thread>

#include "launch/run/exit_codes.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

constexpr double kPatience = 120;

TEST(Crash, TeacherKilledInMidRunChangesNothing) {
  TinyRun run(100, "", "[teacher]\nreplicas = 2\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill("teacher.1"));
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_NE(up.Output().find("teacher.1 ended by signal 9"), std::string::npos) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

class CrashOf : public testing::TestWithParam<const char*> {};

TEST_P(CrashOf, ARoleThenUpAgainGivesTheWeightsOfACalmRun) {
  TinyRun run(100);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill(GetParam()));
  EXPECT_EQ(up.Wait(kPatience), 1) << up.Output();
  EXPECT_NE(up.Output().find("failed with signal 9"), std::string::npos) << up.Output();
  EXPECT_TRUE(run.Pids("--epoch").empty());
  const Process again = run.Launch({"up", run.topology()});
  ASSERT_EQ(again.Wait(kPatience), 0) << again.Output();
  EXPECT_NE(again.Output().find("resuming at step"), std::string::npos) << again.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  // Every score before the crash survived it: the resumed run can be replayed without a teacher.
  const Process replay = run.Launch({"replay", run.topology()});
  EXPECT_EQ(replay.Wait(kPatience), 0) << replay.Output();
}

INSTANTIATE_TEST_SUITE_P(Roles, CrashOf, testing::Values("sgmd-generator", "sgmd-fake-score", "sgmd-broker"),
                         [](const auto& info) {
                           std::string name = std::string(info.param).substr(5);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Crash, RecordedInnerSamplesSurviveIt) {
  TinyRun run(60, "[inner]\nsource = \"replay\"\nupdates = 2\nmax_age = 3\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill("sgmd-fake-score"));
  EXPECT_EQ(up.Wait(kPatience), 1) << up.Output();
  ASSERT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), 0);
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(Crash, OfTheGeneratorOfAnAlignedRunChangesNothing) {
  TinyRun run(60, "[objective]\nalignment = 0.25\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill("sgmd-generator"));
  EXPECT_EQ(up.Wait(kPatience), 1) << up.Output();
  const Process again = run.Launch({"up", run.topology()});
  ASSERT_EQ(again.Wait(kPatience), 0) << again.Output();
  EXPECT_NE(again.Output().find("resuming at step"), std::string::npos) << again.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(Crash, LauncherKilledLeavesNoOrphanAndResumes) {
  TinyRun run(100);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ::kill(up.pid, SIGKILL);
  EXPECT_EQ(up.Wait(kPatience), 128 + SIGKILL);
  for (int i = 0; i < 500 && !run.Pids("--epoch").empty(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(run.Pids("--epoch").empty());
  const Process again = run.Launch({"up", run.topology()});
  ASSERT_EQ(again.Wait(kPatience), 0) << again.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(Interrupt, DrainsCheckpointsAndResumesToTheSameWeights) {
  TinyRun run(100);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ::kill(up.pid, SIGINT);
  EXPECT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
  EXPECT_NE(up.Output().find("drained at step"), std::string::npos) << up.Output();
  ASSERT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), 0);
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

}  // namespace
}  // namespace sgmd
