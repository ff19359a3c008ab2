// Evaluation beside a run that is up.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>

#include "common/storage/atomic_folder.h"
#include "pipeline/evaluation/motion_features.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

constexpr double kPatience = 150;
const char* const kEvaluator =
    "[evaluator]\nenabled = true\nfeatures = \"features.safetensors\"\nsamples = 64\nteacher_steps = 3\n";

// With random features of the tiny run's shape.
void WriteFeatures(const TinyRun& run) { MotionFeatures({4, 4, 4}, 1).Save(run.folder() / "features.safetensors"); }

TEST(LiveEvaluator, MeasuresTheLastCheckpointAndLeavesTheWeightsAlone) {
  TinyRun run(20, "", kEvaluator);
  WriteFeatures(run);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  const std::string metrics = ReadFile(run.run() / "evaluation" / "metrics.jsonl");
  for (const char* tag : {"\"step\":20", "frechet_teacher", "frechet_data", "dynamic_degree", "consistency", "\"guidance\""}) {
    EXPECT_THAT(metrics, HasSubstr(tag));
  }
  EXPECT_GT(std::filesystem::file_size(run.run() / "evaluation" / "videos" / "step-00000020.gif"), 100U);
  const Process again = run.Launch({"up", run.topology()});  // nothing is measured twice
  ASSERT_EQ(again.Wait(kPatience), 0) << again.Output();
  EXPECT_EQ(ReadFile(run.run() / "evaluation" / "metrics.jsonl"), metrics);
}

TEST(LiveEvaluator, KilledDoesNotStopTheRun) {
  TinyRun run(100, "", kEvaluator);
  WriteFeatures(run);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  const auto evaluators = run.Pids("sgmd-evaluator");
  ASSERT_EQ(evaluators.size(), 1U);
  ::kill(evaluators[0], SIGKILL);
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("evaluator ended by signal 9 (Killed); training goes on without it"));
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(LiveEvaluator, WithoutFeaturesIsAMistakeInTheTopology) {
  TinyRun run(4, "", "[evaluator]\nenabled = true\n");
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(30), 1);
  EXPECT_THAT(up.Output(), HasSubstr("topology.toml:5:11: evaluating needs \"features\""));
}

}  // namespace
}  // namespace sgmd
