// The evaluator of a model with latents: a tiny one with a tiny VAE, from the run to videos, figures and a report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
#include "pipeline/evaluation/video_reader.h"
#include "tests/support/latent_run.h"
#include "tests/support/tiny_vae.h"
#include "tests/support/wait_until.h"

namespace sgmd {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr double kPatience = 150;
const std::string kEvaluator = "[evaluator]\nenabled = true\nvae = \"vae\"\nvideos = 2\nteacher_steps = 3\n";

TEST(Previews, ShowEveryCheckpointBesideTheTeacherAndLeaveTheWeightsAlone) {
  LatentRun run(10, kEvaluator);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  std::vector<std::int64_t> steps;
  for (const nlohmann::json& line : run.Metrics()) {
    steps.push_back(line["step"]);
    EXPECT_EQ(line["samples"], 2);
    for (const char* name : {"flow", "dynamic_degree", "consistency", "saturation", "motion", "colour"})
      EXPECT_LE(line.at(StrCat(name, "_low")).get<double>(), line.at(StrCat(name, "_high")).get<double>()) << name;
  }
  EXPECT_EQ(steps, (std::vector<std::int64_t>{0, 5, 10}));
  for (const char* name : {"step-00000000-1.mp4", "step-00000005-2.mp4", "step-00000010-2.mp4"}) {
    const at::Tensor frames = ReadVideo(run.evaluation() / "videos" / name);
    EXPECT_EQ(frames.sizes(), at::IntArrayRef({5, 32, 64, 3})) << "two of 32 px side by side";
  }
  EXPECT_TRUE(std::filesystem::exists(run.evaluation() / "videos/step-00000010.png"));
  const Process again = run.Launch({"up", run.topology()});
  ASSERT_EQ(again.Wait(kPatience), kExitFinished) << again.Output();
  EXPECT_EQ(run.Metrics().size(), 3U) << "nothing is measured twice";
}

TEST(Previews, AreMadeByHandOfAFinishedStudent) {
  LatentRun run(5, "", "[lora]\nrank = 2\n");
  ASSERT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), kExitFinished);
  const std::vector<std::string> options{"--run",    run.run(), "--vae",           run.folder() / "vae",
                                         "--videos", "3",       "--teacher-steps", "2"};
  const auto evaluate = [&](const std::vector<std::string>& more) {
    std::vector<std::string> command{SGMD_BIN_DIR "/sgmd-evaluator"};
    for (const auto& part : {options, more}) command.insert(command.end(), part.begin(), part.end());
    const Process process = run.Start(command);
    EXPECT_EQ(process.Wait(kPatience), 0) << process.Output();
  };
  evaluate({});
  const std::string report = ReadFile(run.run() / "report.md");
  for (const char* part : {"| motion | ", "| dynamic_degree | ", "3 prompts", "videos/student-3.mp4"})
    EXPECT_THAT(report, HasSubstr(part));
  EXPECT_TRUE(std::filesystem::exists(run.run() / "videos/student-3.mp4"));
  evaluate({"--every-checkpoint"});
  EXPECT_EQ(run.Metrics().size(), 2U) << "before the first update, and after five";
}

// That the student of step 0 moved a hundred times as much is what an earlier evaluator left.
TEST(Previews, DrainARunThatStopsMoving) {
  LatentRun run(100000, kEvaluator + "stop_when = [\"falling\"]\n");
  std::filesystem::create_directories(run.evaluation());
  WriteFileAtomically(run.evaluation() / "metrics.jsonl",
                      "{\"step\":0,\"samples\":2,\"motion\":100.0,\"motion_low\":99.0,\"motion_high\":101.0,"
                      "\"colour\":1.0,\"colour_low\":1.0,\"colour_high\":1.0}\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("as [evaluator] stop_when says: the student's motion falls"));
}

TEST(Previews, AreDecodedInTilesWhereTheTopologySaysSo) {
  LatentRun run(5, kEvaluator + "vae_tile = 16\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  ASSERT_EQ(run.Metrics().size(), 2U) << up.Output();
  const nlohmann::json in_tiles = run.Metrics().back();
  std::filesystem::remove_all(run.evaluation());
  const Process whole = run.Start({SGMD_BIN_DIR "/sgmd-evaluator", "--run", run.run(), "--vae-tile", "0",
                                   "--teacher-steps", "3", "--every-checkpoint"});
  ASSERT_EQ(whole.Wait(kPatience), 0) << whole.Output();
  const double saturation = run.Metrics().back()["saturation"];
  EXPECT_NE(in_tiles["saturation"], saturation);
  EXPECT_NEAR(in_tiles["saturation"], saturation, 0.5 * saturation);
}

TEST(Previews, NeedAVae) {
  LatentRun run(4, "[evaluator]\nenabled = true\n");
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(30), kExitRefused);
  EXPECT_THAT(up.Output(), HasSubstr("topology.toml:5:11: evaluating a model with latents needs \"vae\""));
}

TEST(Previews, OfAnotherVaeEndAloneAndTrainingGoesOn) {
  LatentRun run(5, kEvaluator);
  SaveTinyVae(TinyVae(/*residual=*/true), run.folder() / "vae");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("wrong VAE for these latents"));
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(Previews, KilledAndStoppedGoOnWhereTheyWere) {
  LatentRun run(100000, kEvaluator);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(WaitUntil(kPatience, [&] { return !run.Metrics().empty(); })) << up.Output();
  ASSERT_TRUE(run.Kill("sgmd-evaluator"));
  ::kill(up.pid, SIGTERM);
  ASSERT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
  std::vector<std::int64_t> before;
  for (const nlohmann::json& line : run.Metrics()) before.push_back(line["step"]);
  EXPECT_THAT(before, Contains(0));
  const Process evaluator =
      run.Start({SGMD_BIN_DIR "/sgmd-evaluator", "--run", run.run(), "--teacher-steps", "3", "--every-checkpoint"});
  ASSERT_EQ(evaluator.Wait(kPatience), 0) << evaluator.Output();
  EXPECT_THAT(evaluator.Output(), Not(HasSubstr("sampling: teacher"))) << "its videos are kept";
  EXPECT_GT(run.Metrics().size(), before.size());
}

}  // namespace
}  // namespace sgmd
