// What a launcher waits for when a run has ended; shell scripts stand in the places of the programs.
#include "launch/run/host_processes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

class HostProcessesTest : public testing::Test {
 protected:
  HostProcessesTest() {
    for (const char* name : {"sgmd-broker", "sgmd-generator", "sgmd-fake-score", "sgmd-teacher"})
      WriteProgram(name, "exit 0");
    WriteProgram("sgmd-evaluator", "exec sleep 50");
    plan_.topology.run.folder = folder_ / "run";
    plan_.topology.evaluator.enabled = true;
  }
  void WriteProgram(const std::string& name, const std::string& what) {
    WriteFileAtomically(folder_ / name, "#!/bin/sh\n" + what + "\n");
    std::filesystem::permissions(folder_ / name, std::filesystem::perms::owner_all);
  }
  TempFolder folder_;
  LaunchPlan plan_;
};

TEST_F(HostProcessesTest, WaitsForTheEvaluatorForAStatedTimeAndSaysSoOnce) {
  Console console(true);
  HostProcesses processes(plan_, {}, folder_.path(), &console);
  testing::internal::CaptureStdout();
  processes.StartAll(1);
  EXPECT_FALSE(processes.OnlyEvaluatorLeft());
  while (!processes.OnlyEvaluatorLeft()) processes.Poll(std::chrono::milliseconds(20));
  const auto now = HostProcesses::Clock::now();
  EXPECT_TRUE(processes.MayLinger(now - seconds(55), /*drained=*/true));
  EXPECT_TRUE(processes.MayLinger(now - seconds(56), true));
  EXPECT_FALSE(processes.MayLinger(now - seconds(61), true));
  EXPECT_TRUE(processes.MayLinger(now - seconds(61), false)) << "of a finished run it may measure the last checkpoint";
  EXPECT_FALSE(processes.MayLinger(now - seconds(601), false));
  const std::string output = testing::internal::GetCapturedStdout();
  const std::size_t first = output.find("waiting for the evaluator to measure the last checkpoint, at most 60 s");
  EXPECT_NE(first, std::string::npos) << output;
  EXPECT_EQ(output.find("waiting for the evaluator", first + 1), std::string::npos) << output;
  EXPECT_THAT(output, HasSubstr("the evaluator was ended after 60 s"));
  EXPECT_THAT(output, HasSubstr(" --run " + (folder_ / "run").string() + " --every-checkpoint"));
}

}  // namespace
}  // namespace sgmd
