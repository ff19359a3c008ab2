// A run whose weights are lost goes back to its last checkpoint, and stops with the reason when that does not help.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "launch/run/exit_codes.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr double kPatience = 120;

void SetLearningRate(const TinyRun& run, const std::string& section, const std::string& rate) {
  const std::string experiment = (run.folder() / "experiment.toml").string();
  ASSERT_EQ(std::system(("sed -i '/" + section + "/,/learning_rate/ s/^learning_rate = .*/learning_rate = " + rate +
                         "/' " + experiment)
                            .c_str()),
            0);
}

TEST(Divergence, GoesBackTwiceThenStopsWithTheReason) {
  TinyRun run(40);
  // The first update makes weights of 1e30: the next rollout is infinite or not a number.
  SetLearningRate(run, "optimizer.generator", "1e30");
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(kPatience), kExitFailed) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("the student has diverged: its rollout of step 1, micro-batch 0 holds"));
  EXPECT_THAT(up.Output(), HasSubstr("going back to the last checkpoint with new draws (1 of 2)"));
  EXPECT_THAT(up.Output(), HasSubstr("going back to the last checkpoint with new draws (2 of 2)"));
  EXPECT_THAT(up.Output(), HasSubstr("training diverged again. Lower the learning rates"));
  ASSERT_EQ(RollbacksOf({run.run()}).size(), 2U);
  EXPECT_THAT(RollbacksOf({run.run()})[0], HasSubstr("rollout of step 1"))
      << "the reason that is recorded is the reason";
  EXPECT_TRUE(run.Pids("--epoch").empty());
}

// The fake score's weights are lost: its gradients are not finite, the generator skips its updates.
TEST(Divergence, CommitsNoCheckpointBetweenSkippedUpdates) {
  TinyRun run(40);
  SetLearningRate(run, "optimizer.fake_score", "1e30");
  ASSERT_EQ(std::system(("sed -i 's/^every = 5/every = 1/' " + (run.folder() / "experiment.toml").string()).c_str()),
            0);
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_NE(up.Wait(kPatience), 0) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("skipped: gradient norm"));
  EXPECT_THAT(up.Output(), HasSubstr("no finite gradient"));
  EXPECT_THAT(up.Output(), HasSubstr("checkpoint at step 1"));
  EXPECT_THAT(up.Output(), Not(HasSubstr("checkpoint at step 2")));
  EXPECT_THAT(TinyRun::NewestState(run.run()), HasSubstr("step-00000001"));
}

// It ends after a skipped update: in order, at the last good checkpoint, also where that is still on its way because
// the broker's disk is slow.
TEST(Divergence, ARunThatEndsAfterASkippedUpdateLeavesTheLastGoodCheckpoint) {
  ::setenv("SGMD_FAILPOINTS", "cache.flush=sleep(1000)@1", 1);
  for (const char* staleness : {"0", "1"}) {
    TinyRun run(2, StrCat("[outer]\nmax_staleness = ", staleness, "\n"));
    SetLearningRate(run, "optimizer.fake_score", "1e30");
    ASSERT_EQ(std::system(("sed -i 's/^every = 5/every = 1/' " + (run.folder() / "experiment.toml").string()).c_str()),
              0);
    const Process up = run.Launch({"up", run.topology()});
    EXPECT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
    EXPECT_THAT(up.Output(), HasSubstr("the run ended at step 2 after an update that was skipped; the last good"));
    EXPECT_THAT(TinyRun::NewestState(run.run()), HasSubstr("step-00000001"));
    EXPECT_TRUE(std::filesystem::exists(run.run() / "student" / "config.json"));
  }
  ::unsetenv("SGMD_FAILPOINTS");
}

}  // namespace
}  // namespace sgmd
