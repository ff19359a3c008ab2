// A run whose weights are lost goes back to its last checkpoint, and stops with the reason when that does not help.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launch/run/exit_codes.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

constexpr double kPatience = 120;

TEST(Divergence, GoesBackTwiceThenStopsWithTheReason) {
  TinyRun run(40);
  // The first update makes weights of 1e30: every gradient after it is infinite or not a number.
  const std::string experiment = (run.folder() / "experiment.toml").string();
  ASSERT_EQ(std::system(("sed -i 's/^learning_rate = .*/learning_rate = 1e30/' " + experiment).c_str()), 0);
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(kPatience), kExitFailed) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("skipped: gradient norm"));
  EXPECT_THAT(up.Output(), HasSubstr("going back to the last checkpoint with new draws (1 of 2)"));
  EXPECT_THAT(up.Output(), HasSubstr("going back to the last checkpoint with new draws (2 of 2)"));
  EXPECT_THAT(up.Output(), HasSubstr("training diverged again. Lower the learning rates"));
  EXPECT_EQ(RollbacksOf({run.run()}).size(), 2U);
  EXPECT_TRUE(run.Pids("--epoch").empty());
}

}  // namespace
}  // namespace sgmd
