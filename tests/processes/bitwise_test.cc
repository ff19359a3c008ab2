// In strict mode the real pipeline gives the weights of the serial loop, bit for bit, whatever the topology.
#include <gtest/gtest.h>

#include <signal.h>

#include <cstdlib>
#include <regex>

#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

constexpr double kPatience = 120;

void ExpectSerialWeights(TinyRun& run) {
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  EXPECT_TRUE(std::filesystem::exists(run.run() / "student" / "config.json"));
}

TEST(StrictPipeline, WithOneTeacherMatchesTheSerialLoop) {
  TinyRun run(12);
  ExpectSerialWeights(run);
}

TEST(StrictPipeline, WithThreeTeachersMatchesTheSerialLoop) {
  TinyRun run(12, "", "[teacher]\nreplicas = 3\n");
  ExpectSerialWeights(run);
}

// Each stops for a while at its ninth score, when eight answers say how long one takes: another one does it meanwhile.
TEST(StrictPipeline, WithTeachersThatStopForAWhileMatchesTheSerialLoop) {
  TinyRun run(14, "", "[teacher]\nreplicas = 3\n");
  ::setenv("SGMD_FAILPOINTS", "teacher.score[teacher]=sleep(5000)@9", 1);
  ExpectSerialWeights(run);
  ::unsetenv("SGMD_FAILPOINTS");
  const std::string log = ReadFile(RunFolder{run.run()}.Logs() / "broker.log");
  std::smatch given;
  ASSERT_TRUE(std::regex_search(log, given, std::regex("([0-9]+) given to a second teacher")));
  EXPECT_GT(std::stoi(given[1]), 0);
}

TEST(StrictPipeline, WithASlowOneOfThreeTeachersMatchesTheSerialLoop) {
  TinyRun run(12, "", "[teacher]\nreplicas = 3\n");
  ::setenv("SGMD_FAILPOINTS", "teacher.score[teacher.0]=sleep(700)", 1);
  ExpectSerialWeights(run);
  ::unsetenv("SGMD_FAILPOINTS");
}

TEST(StrictPipeline, EncryptedOnOneHostMatchesTheSerialLoop) {
  TinyRun run(7, "", "[transport]\nencrypt = true\n");
  ExpectSerialWeights(run);
}

// Where it is not said, a plan finds room for the graphs of so small a model, and they are kept.
TEST(StrictPipeline, WithExitStepsThatRunAgainMatchesTheSerialLoop) {
  TinyRun run(7, "", "[generator]\nkeep_exit_graphs = 0\n"), some(7, "", "[generator]\nkeep_exit_graphs = 1\n"),
      kept(7);
  for (TinyRun* each : {&run, &some, &kept}) ExpectSerialWeights(*each);
  const auto work = [](const TinyRun& of) {
    const std::string log = ReadFile(RunFolder{of.run()}.Logs() / "broker.log");
    std::smatch found;
    EXPECT_TRUE(std::regex_search(log, found, std::regex("generator ([0-9.]+)")));
    return std::stod(found[1]);
  };
  EXPECT_NEAR(work(run) - work(kept), 1, 1e-9);
  EXPECT_GT(work(some), work(kept));
  EXPECT_LT(work(some), work(run));
}

TEST(StrictPipeline, WithRoundedScoresMatchesTheSerialLoopAndItsReplay) {
  TinyRun run(7, "[precision]\nscores = \"bfloat16\"\n", "[teacher]\nreplicas = 2\n"), whole(7);
  ExpectSerialWeights(run);
  EXPECT_NE(run.SerialState(), whole.SerialState());
  const Process replay = run.Launch({"replay", run.topology()});
  ASSERT_EQ(replay.Wait(kPatience), 0) << replay.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run().string() + "-replay"), TinyRun::NewestState(run.run()));
}

TEST(StrictPipeline, WithNewNoiseAtEachStepMatchesTheSerialLoopAndItsReplay) {
  TinyRun run(7, "[schedule]\nrollout = \"renoise\"\n[inner]\nsource = \"fresh\"\n", "[teacher]\nreplicas = 2\n"),
      euler(7, "[inner]\nsource = \"fresh\"\n");
  ExpectSerialWeights(run);
  EXPECT_NE(run.SerialState(), euler.SerialState());
  const Process replay = run.Launch({"replay", run.topology()});
  ASSERT_EQ(replay.Wait(kPatience), 0) << replay.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run().string() + "-replay"), TinyRun::NewestState(run.run()));
}

TEST(StrictPipeline, WithFreshInnerSamplesMatchesTheSerialLoop) {
  TinyRun run(12, "[inner]\nsource = \"fresh\"\nupdates = 2\n");
  ExpectSerialWeights(run);
}

TEST(StrictPipeline, WithFreshInnerSamplesAfterTheUpdateMatchesTheSerialLoop) {
  TinyRun before(12, "[inner]\nsource = \"fresh\"\nupdates = 2\n"),
      after(12, "[inner]\nsource = \"fresh_after\"\nupdates = 2\n");
  ExpectSerialWeights(after);
  EXPECT_NE(after.SerialState(), before.SerialState());
}

TEST(StrictPipeline, WithReplayedInnerSamplesMatchesTheSerialLoop) {
  TinyRun run(12, "[inner]\nsource = \"replay\"\nupdates = 3\nmax_age = 2\n");
  ExpectSerialWeights(run);
}

TEST(StrictPipeline, WithPaperWeightingMatchesTheSerialLoop) {
  TinyRun run(7, "[objective]\nweighting = \"paper\"\n[schedule]\nscore_sigma_min = 0.4\n");
  ExpectSerialWeights(run);
}

TEST(StrictPipeline, WithACappedWeightAndOneExitAStepMatchesTheSerialLoop) {
  TinyRun run(7, "[objective]\nweighting = \"paper\"\nweight_cap = 10\n[schedule]\nexit = \"step\"\n");
  ExpectSerialWeights(run);
}

TEST(StrictPipeline, WithDmd2MatchesTheSerialLoop) {
  TinyRun run(7, "[objective]\nname = \"dmd2\"\n");
  ExpectSerialWeights(run);
}

TEST(StrictPipeline, WithAlignmentMatchesTheSerialLoop) {
  const std::string dmd2 = "[inner]\nupdates = 2\n[objective]\nname = \"dmd2\"\n";
  TinyRun plain(7, dmd2), aligned(7, dmd2 + "alignment = 0.25\n");
  ExpectSerialWeights(aligned);
  EXPECT_NE(aligned.SerialState(), plain.SerialState());
}

TEST(StrictPipeline, WithAlignmentAndInnerSamplesAfterTheUpdateMatchesTheSerialLoop) {
  TinyRun run(7, "[inner]\nsource = \"fresh_after\"\nupdates = 2\n[objective]\nalignment = 0.25\n");
  ExpectSerialWeights(run);
}

TEST(StrictPipeline, WithScoreIdentityMatchesTheSerialLoop) {
  TinyRun run(7, "[objective]\nname = \"tsg_sim\"\n");
  ExpectSerialWeights(run);
}

TEST(StrictPipeline, WithAFakeScoreThatIsNeverUpdatedMatchesTheSerialLoop) {
  TinyRun run(7, "[inner]\nupdates = 0\n");
  ExpectSerialWeights(run);
}

TEST(Replay, WithoutTeacherMatchesTheRecordedRun) {
  TinyRun run(12);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  const Process replay = run.Launch({"replay", run.topology()});
  ASSERT_EQ(replay.Wait(kPatience), 0) << replay.Output();
  const std::string replayed = run.run().string() + "-replay";
  EXPECT_EQ(TinyRun::NewestState(replayed), TinyRun::NewestState(run.run()));
  EXPECT_FALSE(std::filesystem::exists(replayed + "/logs/teacher.0.log"));
}

TEST(Replay, OfADrainedRunEndsWhereItsRecordEnds) {
  TinyRun run(100000, "[diversity]\nweight = 0.5\nnoise_bank = 360\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ::kill(up.pid, SIGTERM);
  ASSERT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
  const Process replay = run.Launch({"replay", run.topology()});
  ASSERT_EQ(replay.Wait(kPatience), kExitFinished) << replay.Output();
  EXPECT_NE(replay.Output().find("the record ends at step "), std::string::npos) << replay.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run().string() + "-replay"), TinyRun::NewestState(run.run()));
}

TEST(Replay, OfWhatWasNotRecordedSaysSo) {
  TinyRun run(6);
  ASSERT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), 0);
  ASSERT_EQ(std::system(("sed -i 's/^name/seed = 2\\nname/' " + (run.folder() / "experiment.toml").string()).c_str()),
            0);
  const Process replay = run.Launch({"replay", run.topology()});
  EXPECT_EQ(replay.Wait(kPatience), 1);
  EXPECT_NE(replay.Output().find("no score recorded for step 0"), std::string::npos) << replay.Output();
}

}  // namespace
}  // namespace sgmd
