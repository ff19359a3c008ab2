// The diversity loss in whole runs: anchors through the broker give the weights of the serial loop, whoever dies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

constexpr double kPatience = 120;
// 24 entries are 12 micro-batches of 2: with 3 a step, every anchor is computed once in the first 4 steps.
constexpr char kDiversity[] = "[diversity]\nweight = 0.5\nnoise_bank = 24\n";
constexpr char kThreeTeachers[] = "[teacher]\nreplicas = 3\n";

std::string BrokerLog(const std::filesystem::path& run) { return ReadFile(run / "logs/broker.log"); }

void ExpectSerialWeights(TinyRun& run) {
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(Diversity, WithOneTeacherMatchesTheSerialLoopAndComputesEachAnchorOnce) {
  TinyRun run(12, kDiversity);
  ExpectSerialWeights(run);
  EXPECT_THAT(BrokerLog(run.run()), HasSubstr("served 36 anchors: 24 from the cache"));
  TinyRun without(12);
  EXPECT_NE(TinyRun::NewestState(run.run()), without.SerialState());
}

TEST(Diversity, WithThreeTeachersMatchesTheSerialLoop) {
  TinyRun run(12, kDiversity, kThreeTeachers);
  ExpectSerialWeights(run);
}

TEST(Diversity, WithoutCacheMatchesTheSerialLoop) {
  TinyRun run(7, kDiversity, "[cache]\nenabled = false\n");
  ExpectSerialWeights(run);
}

TEST(Diversity, WithTheRolloutsOwnNoiseMatchesTheSerialLoop) {
  TinyRun run(7, "[diversity]\nweight = 0.5\nnoise_bank = 0\n");
  ExpectSerialWeights(run);
}

TEST(Diversity, WithABankOfOneMicroBatchMatchesTheSerialLoop) {
  TinyRun run(7, "[diversity]\nweight = 0.05\nnoise_bank = 2\nanchor_steps = 3\nanchor_grid = 3\n");
  ExpectSerialWeights(run);
}

TEST(Diversity, PipelinedRunFinishes) {
  TinyRun run(12, StrCat(kDiversity, "[outer]\nmax_staleness = 1\n"));
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(kPatience), 0) << up.Output();
}

TEST(Diversity, TeacherKilledInMidRunChangesNothing) {
  // Nothing repeats, so that there are anchors to compute until the end.
  TinyRun run(60, "[diversity]\nweight = 0.5\nnoise_bank = 360\n", "[teacher]\nreplicas = 2\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill("teacher.1"));
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("teacher.1 ended by signal 9"));
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

class DiversityCrashOf : public testing::TestWithParam<const char*> {};

TEST_P(DiversityCrashOf, ARoleThenReplayGiveTheWeightsOfACalmRun) {
  TinyRun run(60, "[diversity]\nweight = 0.5\nnoise_bank = 360\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill(GetParam()));
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("resuming at step"));
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  // Every score and anchor before the crash survived it.
  const Process replay = run.Launch({"replay", run.topology()});
  ASSERT_EQ(replay.Wait(kPatience), 0) << replay.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run().string() + "-replay"), TinyRun::NewestState(run.run()));
  EXPECT_THAT(BrokerLog(run.run().string() + "-replay"), HasSubstr("served 180 anchors: 180 from the cache"));
}

INSTANTIATE_TEST_SUITE_P(Roles, DiversityCrashOf, testing::Values("sgmd-generator", "sgmd-fake-score", "sgmd-broker"),
                         [](const auto& info) {
                           std::string name = std::string(info.param).substr(5);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Diversity, ReplayOfAnotherTrajectorySaysWhatIsMissing) {
  TinyRun run(3, kDiversity);
  ASSERT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), 0);
  const std::string path = run.folder() / "experiment.toml";
  ASSERT_EQ(std::system(("sed -i 's/^noise_bank/anchor_steps = 4\\nnoise_bank/' " + path).c_str()), 0);
  const Process replay = run.Launch({"replay", run.topology()});
  EXPECT_EQ(replay.Wait(kPatience), 1);
  EXPECT_THAT(replay.Output(), HasSubstr("replay: no anchor recorded for step 0"));
}

}  // namespace
}  // namespace sgmd
