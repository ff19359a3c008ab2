// What a person at the launcher meets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/evaluation/motion_features.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;
constexpr double kPatience = 120;

TEST(Launcher, PlanStartsNothingAndNamesEveryProcess) {
  TinyRun run(4);
  const Process plan = run.Launch({"plan", run.topology()});
  ASSERT_EQ(plan.Wait(30), 0);
  for (const char* text :
       {"broker", "fake_score", "generator", "teacher.0", "starts      from the teacher's weights"}) {
    EXPECT_THAT(plan.Output(), HasSubstr(text));
  }
  EXPECT_FALSE(std::filesystem::exists(run.run()));
}

TEST(Launcher, LocatesAMistakeInTheExperimentBeforeAnythingStarts) {
  TinyRun run(4, "[inner]\nsorce = \"fresh\"\n");
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(30), kExitRefused);
  EXPECT_THAT(up.Output(), HasSubstr("experiment.toml:21:1: unknown key \"sorce\""));
  EXPECT_THAT(up.Output(), HasSubstr("did you mean \"source\"?"));
}

TEST(Launcher, SaysWhichModelIsMissing) {
  TinyRun run(4);
  std::filesystem::remove_all(run.folder() / "model");
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(30), kExitRefused);
  EXPECT_THAT(up.Output(), HasSubstr("experiment.toml:5:11: no such model: "));
}

TEST(Launcher, UpRefusesWhatDoesNotFitAsPlanDoes) {
  TinyRun run(2, "", "[generator]\ndevice_memory_gib = 0.1\n");
  const Process plan = run.Launch({"plan", run.topology()});
  EXPECT_EQ(plan.Wait(30), 2);
  const std::string verdict = plan.Output().substr(plan.Output().find("does not fit:"));
  EXPECT_THAT(verdict, HasSubstr("what to change, in order of cost"));
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(30), 2);
  EXPECT_THAT(up.Output(), HasSubstr(verdict));
  EXPECT_THAT(up.Output(), HasSubstr("nothing was started; --allow-oversize"));
  EXPECT_FALSE(std::filesystem::exists(run.run()));
  const Process all_the_same = run.Launch({"up", run.topology(), "--allow-oversize"});
  EXPECT_EQ(all_the_same.Wait(kPatience), 0) << all_the_same.Output();
}

TEST(Launcher, ShowsTheLastLinesOfTheProcessThatFailed) {
  TinyRun run(4);
  WriteFileAtomically(run.folder() / "model" / "diffusion_pytorch_model.safetensors", "not tensors");
  const Process up = run.Launch({"up", run.topology(), "--quiet"});
  EXPECT_EQ(up.Wait(kPatience), 1);
  EXPECT_THAT(up.Output(), HasSubstr("failed with exit code 1"));
  EXPECT_THAT(up.Output(), HasSubstr("not a valid safetensors file"));
}

TEST(Launcher, RefusesAPromptBankThatTheModelCannotRead) {
  TinyRun run(4);
  WriteWordPromptBank(run.folder() / "model" / "prompt_bank.safetensors", {"a ball"}, "", 5);
  const Process up = run.Launch({"up", run.topology(), "--quiet"});
  EXPECT_EQ(up.Wait(kPatience), kExitRefused);
  EXPECT_THAT(up.Output(),
              AllOf(HasSubstr("experiment.toml:6:11: "), HasSubstr("the prompt bank has text_dim 5, the model 8")));
}

TEST(Launcher, RefusesASecondUpInTheSameFolder) {
  TinyRun run(2000);
  const Process first = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << first.Output();
  const Process second = run.Launch({"up", run.topology()});
  EXPECT_EQ(second.Wait(30), kExitRefused);
  EXPECT_THAT(second.Output(), HasSubstr("already up in this folder, by process " + std::to_string(first.pid)));
}

TEST(Launcher, ScalesALiveRunAndShowsIt) {
  TinyRun run(4000);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  const Process scale = run.Launch({"scale", run.topology(), "teacher=3"});
  EXPECT_EQ(scale.Wait(30), 0) << scale.Output();
  for (int i = 0; i < 500 && run.Pids("sgmd-teacher").size() < 3; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(run.Pids("sgmd-teacher").size(), 3U);
  const Process status = run.Launch({"status", run.topology()});
  EXPECT_EQ(status.Wait(30), 0) << status.Output();
  EXPECT_THAT(status.Output(), HasSubstr("of 4000"));
  EXPECT_EQ(run.Launch({"scale", run.topology(), "teacher=1"}).Wait(30), 0);
  for (int i = 0; i < 1000 && run.Pids("sgmd-teacher").size() > 1; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(run.Pids("sgmd-teacher").size(), 1U);
  const Process down = run.Launch({"down", run.topology()});
  EXPECT_EQ(down.Wait(kPatience), 0) << down.Output();
  EXPECT_EQ(up.Wait(kPatience), kExitDrained) << up.Output();
}

TEST(Launcher, SetTakesThePlaceOfWhatTheFilesSay) {
  TinyRun run(4);
  const Process plan =
      run.Launch({"plan", run.topology(), "--set", "experiment.steps=7", "--set", "teacher.replicas=2"});
  EXPECT_EQ(plan.Wait(30), 0);
  EXPECT_THAT(plan.Output(), AllOf(HasSubstr("computes    7 steps of "), HasSubstr("\nteacher.1 ")));
  const Process up = run.Launch({"up", run.topology(), "--set", "experiment.steps=2", "--quiet"});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_EQ(LoadRun(run.run()).experiment.steps, 2);
  const Process wrong = run.Launch({"plan", run.topology(), "--set", "experiment.steps=0"});
  EXPECT_EQ(wrong.Wait(30), 1);
  EXPECT_THAT(wrong.Output(), HasSubstr("--set experiment.steps=0: \"steps\" is out of range"));
}

TEST(Launcher, MistypedCommandLinesAreErrorsOfItsOwn) {
  TinyRun run(4);
  const auto says = [&](const std::vector<std::string>& arguments, const std::string& error, const char* hint = "") {
    const Process process = run.Launch(arguments);
    EXPECT_EQ(process.Wait(30), kExitRefused);
    EXPECT_THAT(process.Output(), AllOf(HasSubstr("sgmd-launch: error: " + error), HasSubstr(hint)));
  };
  const std::string topology = run.topology();
  says({"pln", topology}, "\"pln\" is nothing that sgmd-launch does", "did you mean \"plan\"?");
  says({}, "sgmd-launch needs to know what to do", "one of: plan, up");
  says({"plan", topology, "--run-folder", "a", "--run-folder", "b"}, "--run-folder is given more than once");
  says({"logs", topology, "-n", "abc"}, "the value cannot be read: --lines = abc", "sgmd-launch logs --help");
  says({"up", topology, "--run-folder", "/proc/x"}, "/proc/x: No such file or directory");
}

TEST(Launcher, PrintsItsVersionAndTheReferenceOfBothFiles) {
  TinyRun run(4);
  const Process version = run.Launch({"--version"}), reference = run.Launch({"reference"});
  EXPECT_EQ(version.Wait(30), 0);
  EXPECT_EQ(version.Output().find("sgmd "), 0U);
  EXPECT_EQ(reference.Wait(30), 0);
  EXPECT_THAT(reference.Output(), AllOf(HasSubstr("### `[optimizer.generator]`"), HasSubstr("### `[transport]`"),
                                        HasSubstr("| `prompts` | path | required |"),
                                        HasSubstr("| `guidance` | number, >= 0 | required |")));
  EXPECT_THAT(ReadFile(SGMD_SOURCE_DIR "/launch/README.md"), testing::EndsWith(reference.Output()))
      << "the reference at the end of launch/README.md is what the command prints";
}

TEST(Launcher, RefusesPromptsThatAreNoPromptBankWhereTheyAreNamed) {
  TinyRun run(4);
  WriteFileAtomically(run.folder() / "model" / "prompt_bank.safetensors", "root:x:0:0:root:/root:/bin/bash\n");
  for (const auto& [verb, code] : {std::pair("plan", 1), {"up", kExitRefused}}) {
    const Process process = run.Launch({verb, run.topology()});
    EXPECT_EQ(process.Wait(30), code);
    EXPECT_THAT(process.Output(), AllOf(HasSubstr("experiment.toml:6:11: "), HasSubstr("cannot be the prompt bank")));
  }
  EXPECT_FALSE(std::filesystem::exists(run.run()));
}

// A thousandth GPU is nowhere.
TEST(Launcher, ADeviceThatThisMachineLacksIsANoteOfAPlanAndRefusedByUp) {
  TinyRun run(4, "", "[fake_score]\ndevice = \"cuda:999\"\n");
  const Process plan = run.Launch({"plan", run.topology()}), up = run.Launch({"up", run.topology()});
  EXPECT_EQ(plan.Wait(30), 0);
  EXPECT_THAT(plan.Output(), HasSubstr("note: this machine has no such device: fake_score on cuda:999"));
  EXPECT_EQ(up.Wait(30), kExitRefused);
  EXPECT_THAT(up.Output(), HasSubstr("error: " + run.run().string() + ": this machine has no such device: fake_score"));
  EXPECT_FALSE(std::filesystem::exists(run.run()));
}

// The evaluator is held, as if it had much to measure.
TEST(Launcher, WaitsForTheEvaluatorAloudAndASignalEndsThat) {
  TinyRun run(100000, "", "[evaluator]\nenabled = true\nfeatures = \"features.safetensors\"\n");
  MotionFeatures({4, 4, 4}, 1).Save(run.folder() / "features.safetensors");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  const std::vector<pid_t> evaluators = run.Pids("sgmd-evaluator");
  ASSERT_EQ(evaluators.size(), 1U);
  ::kill(evaluators[0], SIGSTOP);
  ::kill(up.pid, SIGINT);
  const auto waits = [&] { return up.Output().find("waiting for the evaluator to measure") != std::string::npos; };
  for (int i = 0; i < 3000 && !waits(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_THAT(up.Output(), HasSubstr("at most 60 s (Ctrl-C ends it)"));
  ::kill(up.pid, SIGINT);
  EXPECT_EQ(up.Wait(30), kExitDrained) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("drained and checkpointed"));
  EXPECT_TRUE(run.Pids("--epoch").empty());
}

TEST(Launcher, WhatIsSaidToARunThatIsNotUpSaysHowToStartOne) {
  TinyRun run(4);
  std::filesystem::create_directories(run.run());
  const Process down = run.Launch({"down", run.run()});
  EXPECT_EQ(down.Wait(30), 1);
  EXPECT_THAT(down.Output(), HasSubstr("no run is up"));
}

}  // namespace
}  // namespace sgmd
