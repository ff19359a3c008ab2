// Kill -9 of anything, and the weights at the end are those of a calm run.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <regex>
#include <thread>

#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
#include "launch/run/run_history.h"
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

class DeathOf : public testing::TestWithParam<const char*> {};

TEST_P(DeathOf, ARoleRestartsTheRunWhichEndsInTheWeightsOfACalmRun) {
  TinyRun run(60);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill(GetParam()));
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_NE(up.Output().find("ended by signal 9 (Killed); the run goes on from the checkpoint of step "),
            std::string::npos)
      << up.Output();
  EXPECT_NE(up.Output().find(" in 0.5 s (attempt 1 of 5)"), std::string::npos) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  const auto history = ReadHistory(run.run());
  ASSERT_EQ(history.size(), 1U);
  ASSERT_EQ(history[0].restarts.size(), 1U);
  EXPECT_EQ(history[0].restarts[0].cause, "signal 9 (Killed)");
  EXPECT_TRUE(RollbacksOf({run.run()}).empty());
  // Every score before the death survived it: the run can be replayed without a teacher.
  const Process replay = run.Launch({"replay", run.topology()});
  EXPECT_EQ(replay.Wait(kPatience), kExitFinished) << replay.Output();
}

// As one that hangs: it is alive and answers nothing.
TEST_P(DeathOf, AStoppedProcessIsNoticedAndTheRunGoesOn) {
  TinyRun run(60, "", "[transport]\nsilence_seconds = 3\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ::kill(run.Pids(GetParam()).at(0), SIGSTOP);
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_NE(up.Output().find("; its stack is in "), std::string::npos) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

INSTANTIATE_TEST_SUITE_P(Crash, DeathOf, testing::Values("sgmd-generator", "sgmd-fake-score", "sgmd-broker"),
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
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(Crash, GivesUpAfterTheAttemptsOfTheWindow) {
  TinyRun run(100000, "", "[restart]\nattempts = 1\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill("sgmd-generator"));
  for (int i = 0; i < 3000 && up.Output().find("resuming at step") == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_NE(up.Output().find("(attempt 1 of 1)"), std::string::npos) << up.Output();
  ASSERT_TRUE(run.Kill("sgmd-generator"));
  EXPECT_EQ(up.Wait(kPatience), kExitFailed) << up.Output();
  EXPECT_NE(up.Output().find("generator failed with signal 9"), std::string::npos) << up.Output();
  EXPECT_NE(up.Output().find("its student: sgmd-export "), std::string::npos) << up.Output();
  EXPECT_EQ(LastOutcome(run.run())->cause, "generator failed with signal 9 (Killed)");
  EXPECT_TRUE(run.Pids("--epoch").empty());
}

TEST(Crash, TheOnlyTeacherThatIsToldToEndIsStartedAgain) {
  TinyRun run(200);  // it stands until the teacher is back
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ::kill(run.Pids("sgmd-teacher").at(0), SIGTERM);
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_NE(up.Output().find("starting teacher.0 again"), std::string::npos) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

struct Option {
  const char *name, *experiment, *optimizer;  // lines of the experiment, and of both its optimizers
};

std::ostream& operator<<(std::ostream& out, const Option& option) { return out << option.name; }

class DeathOfTheGenerator : public testing::TestWithParam<Option> {};

TEST_P(DeathOfTheGenerator, ChangesNothing) {
  TinyRun run(60, GetParam().experiment);
  const std::filesystem::path file = run.folder() / "experiment.toml";
  const std::string rate = "learning_rate = 1e-3\n";
  WriteFileAtomically(file, std::regex_replace(ReadFile(file), std::regex(rate), rate + GetParam().optimizer));
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill("sgmd-generator"));
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_NE(up.Output().find("resuming at step"), std::string::npos) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

INSTANTIATE_TEST_SUITE_P(Crash, DeathOfTheGenerator,
                         testing::Values(Option{"Aligned", "[objective]\nalignment = 0.25\n", ""},
                                         Option{"NewNoiseAtEachStepAndAFallingRate",
                                                "[schedule]\nrollout = \"renoise\"\n",
                                                "warmup_steps = 3\ndecay = \"cosine\"\ndecay_steps = 50\n"}),
                         [](const auto& info) { return info.param.name; });

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
