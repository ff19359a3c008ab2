// Evaluation beside a run that is up, and of all that a finished one has kept.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
#include "pipeline/evaluation/motion_features.h"
#include "tests/support/experts_run.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr double kPatience = 150;
const char* const kEvaluator =
    "[evaluator]\nenabled = true\nfeatures = \"features.safetensors\"\nsamples = 240\nteacher_steps = 3\n";

// With random features of the tiny run's shape.
void WriteFeatures(const TinyRun& run) { MotionFeatures({4, 4, 4}, 1).Save(run.folder() / "features.safetensors"); }

TEST(LiveEvaluator, MeasuresTheLastCheckpointAndLeavesTheWeightsAlone) {
  TinyRun run(20, "", kEvaluator);
  WriteFeatures(run);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  const std::string metrics = ReadFile(run.run() / "evaluation" / "metrics.jsonl");
  for (const char* tag : {"\"step\":20", "frechet_teacher", "frechet_data", "dynamic_degree", "consistency",
                          "\"guidance\"", "frechet_teacher_low", "mean_speed_high", "frechet_teacher_floor"}) {
    EXPECT_THAT(metrics, HasSubstr(tag));
  }
  EXPECT_GT(std::filesystem::file_size(run.run() / "evaluation" / "videos" / "step-00000020.gif"), 100U);
  const Process again = run.Launch({"up", run.topology()});  // nothing is measured twice
  ASSERT_EQ(again.Wait(kPatience), 0) << again.Output();
  EXPECT_EQ(ReadFile(run.run() / "evaluation" / "metrics.jsonl"), metrics);
}

// Twenty checkpoints come faster than they can be measured, and the run keeps two.
TEST(LiveEvaluator, NamesTheCheckpointsThatWereDeletedBeforeTheirTurn) {
  TinyRun run(100, "keep = 2\n", kEvaluator);
  WriteFeatures(run);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  const std::string log = ReadFile(run.run() / "logs" / "evaluator.log");
  const std::string metrics = ReadFile(run.run() / "evaluation" / "metrics.jsonl");
  for (int step = 5; step <= 100; step += 5) {
    const bool measured = metrics.find(StrCat("\"step\":", step, ",")) != std::string::npos;
    bool named = false;
    std::istringstream lines(log);
    for (std::string line; std::getline(lines, line);) {
      const auto list = line.find("the checkpoints of steps ");
      named |= list != std::string::npos && line.find(StrCat(" ", step, ","), list) != std::string::npos;
    }
    EXPECT_NE(measured, named) << "step " << step << "\n" << log;
  }
  EXPECT_THAT(metrics, AllOf(HasSubstr("\"step\":95,"), HasSubstr("\"step\":100,")));
}

TEST(LiveEvaluator, KilledDoesNotStopTheRun) {
  TinyRun run(100, "", kEvaluator);
  WriteFeatures(run);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill("sgmd-evaluator"));
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("evaluator ended by signal 9 (Killed); training goes on without it"));
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(LiveEvaluator, WithoutFeaturesIsAMistakeInTheTopology) {
  TinyRun run(4, "", "[evaluator]\nenabled = true\n");
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(30), kExitRefused);
  EXPECT_THAT(up.Output(), HasSubstr("topology.toml:5:11: evaluating needs \"features\""));
}

int Evaluate(const TinyRun& run, const std::string& options) {
  return std::system(
      StrCat(SGMD_BIN_DIR
             "/sgmd-evaluator --threads 1 --samples 240 --teacher-steps 3 --fewer-steps 1000,500 --reference ",
             (run.folder() / "reference.safetensors").string(), " --run ", run.run().string(), " ", options)
          .c_str());
}

std::vector<std::string> Lines(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST(EvaluatorAfterARun, MeasuresEveryCheckpointOnceAndTheLastOnFewerStepsToo) {
  TinyRun run(20, "keep = 3\n", "[evaluator]\nfeatures = \"features.safetensors\"\n");
  WriteFeatures(run);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  ASSERT_EQ(Evaluate(run, "--every-checkpoint --baselines"), 0);
  const std::filesystem::path evaluation = run.run() / "evaluation";
  const auto measured = Lines(evaluation / "metrics.jsonl");
  EXPECT_THAT(measured, ElementsAre(HasSubstr("\"step\":10,"), HasSubstr("\"step\":15,"),
                                    AllOf(HasSubstr("\"step\":20,"), HasSubstr("[1000,750,500,250]")),
                                    AllOf(HasSubstr("\"step\":20,"), HasSubstr("[1000,500]"))));
  for (const char* picture :
       {"student-4.png", "student-2.gif", "base-4.png", "base-2.png", "teacher.gif", "teacher-4.png", "data.png"}) {
    EXPECT_TRUE(std::filesystem::exists(evaluation / "videos" / picture)) << picture;
  }
  const auto drawn = std::filesystem::last_write_time(run.folder() / "reference.safetensors");
  ASSERT_EQ(Evaluate(run, "--every-checkpoint"), 0);
  EXPECT_EQ(Lines(evaluation / "metrics.jsonl"), measured);
  EXPECT_EQ(std::filesystem::last_write_time(run.folder() / "reference.safetensors"), drawn);
}

TEST(EvaluatorAfterARun, BaselinesSayWhatADistanceCanBe) {
  TinyRun run(1, "", "[evaluator]\nfeatures = \"features.safetensors\"\n");
  WriteFeatures(run);
  SaveRun(LoadLaunchPlan(run.topology()));  // never started
  ASSERT_EQ(Evaluate(run, "--baselines"), 0);
  std::vector<std::string> arms;
  for (const std::string& line : Lines(run.run() / "evaluation" / "baselines.jsonl")) {
    const auto object = nlohmann::json::parse(line);
    arms.push_back(object["arm"]);
    if (object["arm"] == "teacher") {
      EXPECT_NEAR(object["frechet_teacher"].get<double>(), 0, 1e-6);
      EXPECT_EQ(object["evaluations"], 6);
    } else if (object["arm"] == "teacher-again") {
      EXPECT_GT(object["frechet_teacher_low"].get<double>(), 0);
    } else if (object["arm"] == "base-2") {
      EXPECT_EQ(object["evaluations"], 2);
    }
  }
  EXPECT_THAT(arms, ElementsAre("data", "teacher", "teacher-again", "teacher-4", "base-4", "base-2"));
}

// What it measures of the teacher and of an untrained student, and of `student` beside the teacher.
std::vector<std::string> FiguresOf(const TinyRun& run, const std::filesystem::path& student) {
  WriteFeatures(run);
  SaveRun(LoadLaunchPlan(run.topology()));
  EXPECT_EQ(Evaluate(run, "--baselines"), 0);
  EXPECT_EQ(Evaluate(run, StrCat("--student ", student.string())), 0);
  std::vector<std::string> figures = Lines(run.run() / "evaluation" / "baselines.jsonl");
  for (const std::string& line : Lines(run.run() / "report.md")) {
    if (line.starts_with("|")) figures.push_back(line);
  }
  return figures;
}

TEST(EvaluatorAfterARun, GivesTwoEqualExpertsTheFiguresOfTheOneModel) {
  const std::string topology = "[evaluator]\nfeatures = \"features.safetensors\"\n";
  const TinyRun one(1, "", topology);
  const ExpertsRun two(1, "", topology);
  WriteTinyModel(two.folder() / "experts" / kLowNoiseExpert);
  const std::vector<std::string> figures = FiguresOf(one, one.folder() / "model");
  EXPECT_GT(figures.size(), 10U);
  EXPECT_EQ(FiguresOf(two, two.folder() / "experts"), figures);
  WriteTinyModel(two.folder() / "experts" / kLowNoiseExpert, /*seed=*/3);
  std::filesystem::remove(two.folder() / "reference.safetensors");
  std::filesystem::remove_all(two.run());
  EXPECT_NE(FiguresOf(two, two.folder() / "experts"), figures);
}

TEST(EvaluatorAfterARun, RefusesTooFewVideosForTheFeatures) {
  TinyRun run(1, "", "[evaluator]\nfeatures = \"features.safetensors\"\n");
  WriteFeatures(run);
  SaveRun(LoadLaunchPlan(run.topology()));
  const std::string errors = (run.folder() / "errors").string();
  EXPECT_NE(std::system(StrCat(SGMD_BIN_DIR "/sgmd-evaluator --baselines --samples 239 --run ", run.run().string(),
                               " 2>", errors)
                            .c_str()),
            0);
  EXPECT_THAT(ReadFile(errors), AllOf(HasSubstr("239 videos are too few for a Fréchet distance of 24 features"),
                                      HasSubstr("measure at least 240")));
}

TEST(EvaluatorAfterARun, RefusesWhatIsNoGrid) {
  TinyRun run(1, "", "[evaluator]\nfeatures = \"features.safetensors\"\n");
  WriteFeatures(run);
  SaveRun(LoadLaunchPlan(run.topology()));
  EXPECT_NE(Evaluate(run, "--every-checkpoint --fewer-steps 500,1000"), 0);
  EXPECT_NE(Evaluate(run, "--every-checkpoint"), 0);  // no checkpoint
}

}  // namespace
}  // namespace sgmd
