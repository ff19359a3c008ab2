// How the loops are paced: which student rolls out a step, which fake score gives its gradient, how often a sample is
// used. Whatever it is, the processes give the weights of the serial loop, bit for bit.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <regex>

#include "common/config/run_folder.h"
#include "common/storage/atomic_folder.h"
#include "launch/plan/memory_plan.h"
#include "launch/run/exit_codes.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

constexpr double kPatience = 120;

struct Case {
  const char *name, *experiment;
};

class Pace : public testing::TestWithParam<Case> {};

// Ten steps with a checkpoint in between, two teachers.
TEST_P(Pace, MatchesTheSerialLoop) {
  TinyRun run(10, GetParam().experiment, "[teacher]\nreplicas = 2\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  const std::string weights = TinyRun::NewestState(run.run());
  EXPECT_EQ(weights, run.SerialState());
  static const std::string plain = TinyRun(10).SerialState();
  EXPECT_NE(weights, plain);
}

INSTANTIATE_TEST_SUITE_P(
    All, Pace,
    testing::Values(
        Case{"Staleness3", "[outer]\nmax_staleness = 3\n"},
        Case{"Staleness1FreshAfter", "[outer]\nmax_staleness = 1\n[inner]\nsource = \"fresh_after\"\n"},
        Case{"Staleness2Fresh", "[outer]\nmax_staleness = 2\n[inner]\nsource = \"fresh\"\n"},
        Case{"Staleness1Aligned", "[outer]\nmax_staleness = 1\n[objective]\nalignment = 0.25\n"},
        Case{"Reuse5", "[outer]\nreuse = 5\n"},
        Case{"Reuse5Replay", "[outer]\nreuse = 5\n[inner]\nsource = \"replay\"\nupdates = 2\nmax_age = 3\n"},
        Case{"Reuse5FreshAfterAligned",
             "[outer]\nreuse = 5\n[inner]\nsource = \"fresh_after\"\n[objective]\nalignment = 0.25\n"},
        Case{"Reuse5Staleness2Diverse",
             "[outer]\nreuse = 5\nmax_staleness = 2\n[diversity]\nweight = 0.5\nnoise_bank = 0\n"},
        Case{"BeforeTwoUpdates", "[inner]\norder = \"before\"\nupdates = 2\n"},
        Case{"BeforeFresh", "[inner]\norder = \"before\"\nsource = \"fresh\"\n"},
        Case{"BeforeReplayStaleness2",
             "[inner]\norder = \"before\"\nsource = \"replay\"\nmax_age = 3\n[outer]\nmax_staleness = 2\n"},
        Case{"BeforeReuse5", "[inner]\norder = \"before\"\n[outer]\nreuse = 5\n"},
        Case{"PairedReuse5Staleness1", "[inner]\nsource = \"paired\"\n[outer]\nreuse = 5\nmax_staleness = 1\n"},
        Case{"PairedDmd2", "[inner]\nsource = \"paired\"\nupdates = 1\n[objective]\nname = \"dmd2\"\n"}),
    [](const auto& info) { return std::string(info.param.name); });

// What the broker's log says of a sample, in each of the updates that it serves, is what a plan says.
TEST(Reuse, WorkIsCountedForEveryUpdateThatASampleServes) {
  TinyRun run(10, "[outer]\nreuse = 5\n[schedule]\nexit_weights = [0, 0, 0, 1]\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  const std::string log = ReadFile(RunFolder{run.run()}.Logs() / "broker.log");
  std::smatch said;
  ASSERT_TRUE(std::regex_search(log, said, std::regex("work per sample .* together ([0-9.]+)")));
  const LaunchPlan plan = LoadRun(run.run());
  const double samples = static_cast<double>(plan.experiment.data.micro_batch * plan.experiment.data.micro_batches);
  const StepCost cost = StepCostOf(plan, RoleConfigs(plan.experiment));
  EXPECT_NEAR(std::stod(said[1]), (cost.generator + cost.fake_score + cost.teachers) / samples, 1e-4);
}

// The run `up` is drained, goes on to its end, and is replayed: to the same weights, which are returned.
std::string WeightsAfterADrainAndOfTheReplay(TinyRun& run, const Process& up) {
  ::kill(up.pid, SIGTERM);
  EXPECT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
  for (const char* verb : {"up", "replay"}) {
    const Process process = run.Launch({verb, run.topology()});
    EXPECT_EQ(process.Wait(kPatience), kExitFinished) << process.Output();
  }
  const std::string weights = TinyRun::NewestState(run.run());
  EXPECT_EQ(TinyRun::NewestState(run.run().string() + "-replay"), weights);
  return weights;
}

class PaceAndDeath : public testing::TestWithParam<Case> {};

TEST_P(PaceAndDeath, OfTheGeneratorAndOfTheFakeScoreChangeNothing) {
  TinyRun run(80, GetParam().experiment);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill("sgmd-generator"));
  ASSERT_TRUE(run.WaitForCheckpoint(20, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill("sgmd-fake-score"));
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

// Where it was drained is a step between checkpoints, which decides who rolled out the steps after it.
TEST_P(PaceAndDeath, ARunThatWasDrainedAndWentOnIsReplayedBitForBit) {
  TinyRun run(60, GetParam().experiment);
  const Process first = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << first.Output();
  const std::string weights = WeightsAfterADrainAndOfTheReplay(run, first);
  EXPECT_EQ(weights, run.SerialState());
}

INSTANTIATE_TEST_SUITE_P(All, PaceAndDeath,
                         testing::Values(Case{"Reuse5Staleness2", "[outer]\nreuse = 5\nmax_staleness = 2\n"},
                                         Case{"BeforeStaleness1",
                                              "[inner]\norder = \"before\"\n[outer]\nmax_staleness = 1\n"},
                                         Case{"Paired", "[inner]\nsource = \"paired\"\n"}),
                         [](const auto& info) { return std::string(info.param.name); });

constexpr char kFree[] =
    "[inner]\nsource = \"replay\"\npace = \"free\"\nmin = 1\nmax = 6\n[outer]\nland = 2\nmax_staleness = 1\n";

// The teachers are slow and die, the run is drained and goes on: what timing decided is done again.
TEST(FreePace, IsReplayedBitForBitWithoutTeachers) {
  TinyRun run(80, kFree, "[teacher]\nreplicas = 2\n[env]\nSGMD_FAILPOINTS = \"teacher.score=sleep(20):40%\"\n");
  const Process first = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << first.Output();
  ASSERT_TRUE(run.Kill("teacher.1"));
  ASSERT_TRUE(run.WaitForCheckpoint(10, kPatience)) << first.Output();
  ASSERT_TRUE(run.Kill("sgmd-fake-score"));
  ASSERT_TRUE(run.WaitForCheckpoint(15, kPatience)) << first.Output();
  WeightsAfterADrainAndOfTheReplay(run, first);
  const std::filesystem::path replayed = run.run().string() + "-replay";
  EXPECT_EQ(ReadFile(RunFolder{replayed}.Pace()), ReadFile(RunFolder{run.run()}.Pace()));
}

TEST(FreePace, LearnsMoreWhileSlowTeachersScore) {
  const auto updates = [](const std::string& topology) {
    TinyRun run(10, kFree, topology);
    const Process up = run.Launch({"up", run.topology()});
    EXPECT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
    const std::string pace = ReadFile(RunFolder{run.run()}.Pace());
    return std::ranges::count(pace, 'u');
  };
  const auto of_slow = updates("[env]\nSGMD_FAILPOINTS = \"teacher.score=sleep(100)\"\n");
  EXPECT_GT(of_slow, 10) << "the fewest that it may make";
  EXPECT_LE(of_slow, 60) << "the most that it may make";
}

TEST(FreePace, WithoutARecordThereIsNoReplay) {
  TinyRun run(5, kFree);
  ASSERT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), kExitFinished);
  std::filesystem::remove(RunFolder{run.run()}.Pace());
  const Process replay = run.Launch({"replay", run.topology()});
  EXPECT_EQ(replay.Wait(kPatience), kExitRefused) << replay.Output();
  EXPECT_NE(replay.Output().find("no record of it"), std::string::npos) << replay.Output();
}

}  // namespace
}  // namespace sgmd
