#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;

pid_t StartPretrainer(const std::filesystem::path& out) {
  const std::string program = std::string(SGMD_BIN_DIR) + "/sgmd-pretrainer";
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::execl(program.c_str(), program.c_str(), "teacher", "--out", out.c_str(), "--steps", "10", "--batch", "2",
            "--save-every", "1", nullptr);
    ::_exit(127);
  }
  return pid;
}

int WaitFor(pid_t pid) {
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(Pretrainer, KilledAndStartedAgainEndsInTheWeightsOfACalmRun) {
  const TempFolder folder;
  ASSERT_EQ(WaitFor(StartPretrainer(folder / "calm")), 0);
  const pid_t pid = StartPretrainer(folder / "killed");
  while (!std::filesystem::exists(folder / "killed/.pretraining"))
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ::kill(pid, SIGKILL);
  ASSERT_EQ(WaitFor(pid), 128 + SIGKILL) << "it had ended before the kill";
  ASSERT_EQ(WaitFor(StartPretrainer(folder / "killed")), 0);
  const std::string weights = "diffusion_pytorch_model.safetensors";
  EXPECT_EQ(ReadFile(folder / "calm" / weights), ReadFile(folder / "killed" / weights));
  EXPECT_FALSE(std::filesystem::exists(folder / "killed/.pretraining"));
}

// Exit code and what was printed.
std::pair<int, std::string> RunProgram(const TempFolder& folder, const std::string& command) {
  const std::string output = (folder / "output").string();
  const int status = std::system(StrCat(SGMD_BIN_DIR "/", command, " >", output, " 2>&1").c_str());
  return {WEXITSTATUS(status), ReadFile(output)};
}

TEST(Pretrainer, LeavesAFinishedModelUnlessForced) {
  const TempFolder folder;
  const std::string out = (folder / "model").string(), small = " --batch 2 --steps 2 --out " + out;
  const auto weights = [&] { return ReadFile(folder / "model/diffusion_pytorch_model.safetensors"); };
  ASSERT_EQ(RunProgram(folder, "sgmd-pretrainer teacher" + small).first, 0);
  const std::string first = weights();
  const auto again = RunProgram(folder, "sgmd-pretrainer teacher" + small);
  EXPECT_EQ(again.first, 0);
  EXPECT_THAT(again.second, HasSubstr("was trained with these settings already"));
  const auto other = RunProgram(folder, "sgmd-pretrainer teacher --seed 2" + small);
  EXPECT_EQ(other.first, 1);
  EXPECT_THAT(other.second, AllOf(HasSubstr("this was trained with steps=2 batch=2 learning_rate=0.004 seed=1"),
                                  HasSubstr("--force")));
  EXPECT_EQ(weights(), first);
  EXPECT_EQ(RunProgram(folder, "sgmd-pretrainer teacher --force --seed 2" + small).first, 0);
  EXPECT_NE(weights(), first);
}

TEST(Pretrainer, LeavesAFinishedFeatureNetworkUnlessForced) {
  const TempFolder folder;
  const std::string command =
      "sgmd-pretrainer features --batch 2 --steps 2 --out " + (folder / "f.safetensors").string();
  ASSERT_EQ(RunProgram(folder, command).first, 0);
  EXPECT_EQ(RunProgram(folder, command + " --seed 2").first, 1);
  EXPECT_EQ(RunProgram(folder, command + " --seed 2 --force").first, 0);
}

TEST(CommandLines, RefuseWhatIsOutOfRangeAndTellTheRange) {
  const TempFolder folder;
  const std::pair<const char*, const char*> cases[] = {
      {"sgmd-pretrainer teacher --out x --learning-rate -1", "\"-1\" is not a number in [1e-12, 1]"},
      {"sgmd-pretrainer features --out x --learning-rate nan", "\"nan\" is not a number in [1e-12, 1]"},
      {"sgmd-pretrainer teacher --out x --steps abc", "--steps"},
      {"sgmd-pretrainer teacher --out x --steps 1 --steps 2", "--steps"},
      {"sgmd-sample --model x --out y.gif --guidance nan", "\"nan\" is not a number in [0, 100]"},
      {"sgmd-sample --model x --out y.gif --seed -1", "\"-1\" is not a whole number in [0, 2^63)"},
      {"sgmd-sample --model x --out y.gif --shift inf", "\"inf\" is not a number in [0.001, 1000]"},
      {"sgmd-pretrainer teacher --out x --width abc", "not in {32,64,"},
      {"sgmd-evaluator --run x --seed 1.5", "\"1.5\" is not a whole number"},
  };
  for (const auto& [command, message] : cases) {
    const auto [code, output] = RunProgram(folder, command);
    EXPECT_NE(code, 0) << command;
    EXPECT_NE(code, 70) << command;
    EXPECT_THAT(output, HasSubstr(message)) << command;
  }
}

TEST(CommandLines, TellTheVersion) {
  const TempFolder folder;
  for (const char* program :
       {"sgmd-broker", "sgmd-encode", "sgmd-evaluator", "sgmd-export", "sgmd-fake-score", "sgmd-generator",
        "sgmd-pretrainer", "sgmd-sample", "sgmd-teacher", "sgmd-tokenizer", "sgmd-vae"}) {
    const auto [code, output] = RunProgram(folder, StrCat(program, " --version"));
    EXPECT_EQ(code, 0) << program;
    EXPECT_THAT(output, testing::MatchesRegex("sgmd [0-9]+\\.[0-9]+\\.[0-9]+\n")) << program;
  }
}

}  // namespace
}  // namespace sgmd
