// Teachers that several processes share: scores of the same bits, and a group that dies starts again by itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
#include "tests/support/tiny_run.h"
#include "tests/support/wait_until.h"

namespace sgmd {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr double kPatience = 150;
constexpr std::int64_t kWidth = 192;            // of the model: a block has seven grains
const std::string kSpeaker("teacher.0\0", 10);  // how the argument ends: no other rank

// A tiny run of three micro-batches whose teachers are groups of `ranks`.
class TeacherGroupRun : public TinyRun {
 public:
  TeacherGroupRun(std::int64_t steps, int ranks, int replicas = 1, const std::string& experiment = "",
                  const std::string& topology = "")
      : TinyRun(steps, experiment, StrCat("[teacher]\nranks = ", ranks, "\nreplicas = ", replicas, "\n", topology)) {
    WriteTinyModel(folder() / "model", 1, kWidth);
  }
};

struct Case {
  const char* name;
  int ranks, replicas;
  const char* experiment = "";
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class TeacherGroup : public testing::TestWithParam<Case> {};

TEST_P(TeacherGroup, MatchesTheSerialLoop) {
  const Case& c = GetParam();
  TeacherGroupRun run(4, c.ranks, c.replicas, c.experiment);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  EXPECT_THAT(up.Output(), Not(HasSubstr("starting teacher")));
}

INSTANTIATE_TEST_SUITE_P(Of, TeacherGroup,
                         testing::Values(Case{"Two", 2, 1}, Case{"FourWithThreeMicroBatches", 4, 1},
                                         Case{"TwoTwice", 2, 2},
                                         Case{"Bfloat16", 2, 1, "[precision]\ncompute = \"bfloat16\"\n"},
                                         Case{"Bfloat16Scores", 2, 1, "[precision]\nscores = \"bfloat16\"\n"},
                                         Case{"Anchors", 2, 1, "[diversity]\nweight = 0.5\nnoise_bank = 16\n"}),
                         [](const auto& info) { return info.param.name; });

class TeacherRankDies : public testing::TestWithParam<std::string> {};

// The trained roles wait for scores meanwhile, and go back to no checkpoint.
TEST_P(TeacherRankDies, AndItsGroupStartsAgain) {
  TeacherGroupRun run(20, 2);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill(GetParam()));
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("starting teacher.0 again"));
  EXPECT_THAT(up.Output(), HasSubstr("(1 of 5)"));
  EXPECT_THAT(up.Output(), Not(HasSubstr("(2 of 5)"))) << "the death of a group is one";
  EXPECT_THAT(up.Output(), Not(HasSubstr("the run goes on from")));
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

INSTANTIATE_TEST_SUITE_P(Kill, TeacherRankDies, testing::Values("teacher.0/1", kSpeaker),
                         [](const auto& info) { return info.param == kSpeaker ? "Speaker" : "Follower"; });

TEST(TeacherGroups, ARankThatStandsStillEndsItsGroup) {
  TeacherGroupRun run(20, 2, 1, "", "[transport]\nsilence_seconds = 3\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ::kill(run.Pids("teacher.0/1").at(0), SIGSTOP);
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("teacher.0/1 gave no sign of life for"));
  EXPECT_THAT(up.Output(), HasSubstr("starting teacher.0 again"));
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(TeacherGroups, ComeAndGoAsAWhole) {
  TeacherGroupRun run(100000, 2);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  const auto ranks = [&] { return run.Pids("teacher.1").size(); };
  const auto scale = [&](const char* teachers) {
    const Process process = run.Launch({"scale", run.topology(), teachers});
    EXPECT_EQ(process.Wait(kPatience), 0) << process.Output();
  };
  scale("teacher=2");
  ASSERT_TRUE(WaitUntil(kPatience, [&] { return up.Output().find("teacher.1 joined") != std::string::npos; }))
      << up.Output();
  EXPECT_EQ(ranks(), 2U);
  scale("teacher=1");
  EXPECT_TRUE(WaitUntil(kPatience, [&] { return ranks() == 0; })) << up.Output();
  ::kill(up.pid, SIGTERM);
  ASSERT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
  EXPECT_THAT(up.Output(), Not(HasSubstr("starting teacher")));
}

}  // namespace
}  // namespace sgmd
