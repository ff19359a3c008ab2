#include "launch/run/supervisor.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using std::chrono::milliseconds;

class SupervisorTest : public testing::Test {
 protected:
  ExitReport WaitForExit() {
    for (int i = 0; i < 500; ++i) {
      const auto ended = supervisor_.Poll(milliseconds(20));
      if (!ended.empty()) return ended.front();
    }
    ADD_FAILURE() << "nothing ended";
    return {};
  }
  TempFolder folder_;
  std::vector<std::string> lines_;
  Supervisor supervisor_{folder_.path(), [this](const std::string& name, const std::string& line) {
                           lines_.push_back(name + ": " + line);
                         }};
};

TEST_F(SupervisorTest, ReportsExitCodeAndLastLinesAndKeepsTheLog) {
  supervisor_.Start("p", {"/bin/sh", "-c", "for i in $(seq 30); do echo line $i; done; echo last >&2; exit 3"});
  const ExitReport report = WaitForExit();
  EXPECT_EQ(report.code, 3);
  EXPECT_EQ(report.Reason(), "exit code 3");
  ASSERT_EQ(report.last_lines.size(), 20U);
  EXPECT_EQ(report.last_lines.back(), "last");
  EXPECT_EQ(lines_.front(), "p: line 1");
  EXPECT_NE(ReadFile(folder_ / "p.log").find("line 30\nlast\n"), std::string::npos);
}

TEST_F(SupervisorTest, GivesVariablesOverItsOwn) {
  ::setenv("SGMD_TEST_KEPT", "kept", 1);
  ::setenv("SGMD_TEST_OVER", "own", 1);
  supervisor_.Start("p", {"/bin/sh", "-c", "echo $SGMD_TEST_KEPT $SGMD_TEST_OVER; env | grep -c SGMD_TEST_OVER"},
                    {{"SGMD_TEST_OVER", "given"}});
  WaitForExit();
  EXPECT_EQ(lines_, (std::vector<std::string>{"p: kept given", "p: 1"}));
  ::unsetenv("SGMD_TEST_KEPT");
  ::unsetenv("SGMD_TEST_OVER");
}

TEST_F(SupervisorTest, ReportsTheSignalThatKilled) {
  supervisor_.Start("p", {"/bin/sh", "-c", "kill -9 $$"});
  EXPECT_EQ(WaitForExit().Reason(), "signal 9 (Killed)");
}

TEST_F(SupervisorTest, KillsAProcessThatIgnoresInterrupt) {
  supervisor_.Start("p", {"/bin/sh", "-c", "trap '' INT; echo ready; while :; do sleep 0.05; done"});
  while (lines_.empty()) supervisor_.Poll(milliseconds(20));
  supervisor_.StopAll(milliseconds(200));
  EXPECT_FALSE(supervisor_.Running("p"));
}

TEST_F(SupervisorTest, RefusesWhatCannotBeExecutedAndANameInUse) {
  EXPECT_THROW(supervisor_.Start("p", {"/nonexistent"}), Error);
  supervisor_.Start("p", {"/bin/sleep", "60"});
  EXPECT_THROW(supervisor_.Start("p", {"/bin/sleep", "60"}), Error);
}

}  // namespace
}  // namespace sgmd
