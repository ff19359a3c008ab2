// A process that fails by itself, soon after the start: what is got over and what ends the run.
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

// A run of 12 steps, which takes less than the second between two looks at its status, with a failpoint.
class EarlyFailure : public testing::TestWithParam<const char*> {
 protected:
  ~EarlyFailure() override {
    for (const char* name : {"SGMD_FAILPOINTS", "SGMD_FAILPOINTS_MARKS"}) ::unsetenv(name);
  }
  Process UpWith(const std::string& rule) {
    const std::filesystem::path marks = run_.folder() / "marks";
    std::filesystem::create_directory(marks);
    ::setenv("SGMD_FAILPOINTS", rule.c_str(), 1);
    ::setenv("SGMD_FAILPOINTS_MARKS", marks.c_str(), 1);
    return run_.Launch({"up", run_.topology()});
  }

  TinyRun run_{12};
};

TEST_P(EarlyFailure, OfTheFirstCheckpointIsGotOver) {
  const Process up = UpWith(StrCat("checkpoint.write[", GetParam(), "]=enospc@1!"));
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("No space left on device; the run goes on from its beginning in 0.5 s"))
      << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run_.run()), run_.SerialState());
}

// Though it would not happen again: who cannot do the first step says so at once.
TEST_P(EarlyFailure, OfTheFirstStepEndsTheRunWithItsCause) {
  const Process up = UpWith(StrCat(GetParam(), ".step=error@1!"));
  EXPECT_EQ(up.Wait(kPatience), kExitFailed) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr(StrCat(GetParam(), " failed with exit code 1"))) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr(StrCat("failpoint ", GetParam(), ".step"))) << up.Output();
  EXPECT_THAT(up.Output(), Not(HasSubstr("the run goes on"))) << up.Output();
}

INSTANTIATE_TEST_SUITE_P(Roles, EarlyFailure, testing::Values("generator", "fake_score"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sgmd
