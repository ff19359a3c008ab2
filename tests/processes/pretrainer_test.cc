#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

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

}  // namespace
}  // namespace sgmd
