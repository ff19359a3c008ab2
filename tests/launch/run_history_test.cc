#include "launch/run/run_history.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "launch/run/exit_codes.h"
#include "launch/run/run_control.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

class RunHistoryTest : public testing::Test {
 protected:
  const std::filesystem::path& run() const { return folder_.path(); }
  void Write(const std::string& text) const {
    std::ofstream(RunFolder{run()}.History(), std::ios::app) << text << std::flush;
  }
  void Start(std::uint64_t epoch) const { RecordStart(run(), {"", epoch, 5, 42, "here", {}, {}}); }
  TempFolder folder_;
};

TEST_F(RunHistoryTest, TellsStartsWithTheirRestartsAndEnds) {
  Start(1);
  RecordRestart(run(), {"", 2, "broker", "signal 9 (Killed)", 15});
  RecordRestart(run(), {"", 2, "teacher.1", "exit code 1", {}});
  RecordEnd(run(), {"", 2, Outcome::kFailed, kExitFailed, 20, "a \"cause\"\nof two lines"});
  Start(3);
  const auto records = ReadHistory(run());
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].epoch, 1U);
  EXPECT_EQ(records[0].from_step, 5);
  EXPECT_EQ(records[0].pid, 42);
  EXPECT_EQ(records[0].machine, "here");
  EXPECT_EQ(records[0].time.size(), std::string("2026-11-24T21:03:11Z").size());
  ASSERT_EQ(records[0].restarts.size(), 2U);
  EXPECT_EQ(records[0].restarts[0].process, "broker");
  EXPECT_EQ(records[0].restarts[0].cause, "signal 9 (Killed)");
  EXPECT_EQ(records[0].restarts[0].from_step, 15);
  EXPECT_EQ(records[0].restarts[1].from_step, std::nullopt);
  ASSERT_TRUE(records[0].end);
  EXPECT_EQ(records[0].end->outcome, Outcome::kFailed);
  EXPECT_EQ(records[0].end->exit_code, 1);
  EXPECT_EQ(records[0].end->step, 20);
  EXPECT_EQ(records[0].end->cause, "a \"cause\"\nof two lines");
  EXPECT_FALSE(records[1].end);
}

TEST_F(RunHistoryTest, SkipsALineThatWasCutAndGoesOnBehindIt) {
  Start(1);
  Write("{\"event\":\"end\",\"epo");
  EXPECT_EQ(ReadHistory(run()).size(), 1U);
  Start(2);
  const auto records = ReadHistory(run());
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[1].epoch, 2U);
}

TEST_F(RunHistoryTest, SkipsWhatIsNoLineOfItsOwn) {
  Write("[1]\n{\"event\":7}\n\n{\"event\":\"end\"}\n\"start\"\n");
  Start(1);
  EXPECT_EQ(ReadHistory(run()).size(), 1U);
}

TEST_F(RunHistoryTest, AStartWithoutAnEndThatNobodyRunsWasKilledFromOutside) {
  EXPECT_FALSE(LastOutcome(run()));
  {
    const RunLock lock(run());
    Start(1);
    EXPECT_FALSE(LastOutcome(run())) << "it is up";
  }
  std::filesystem::create_directories(run() / "checkpoints" / "step-00000040");
  const auto killed = LastOutcome(run());
  ASSERT_TRUE(killed);
  EXPECT_EQ(killed->outcome, Outcome::kKilled);
  EXPECT_EQ(killed->step, 40);
  EXPECT_EQ(killed->time, "");
  EXPECT_NE(killed->cause.find("process 42 on here"), std::string::npos) << killed->cause;
  RecordEnd(run(), {"", 1, Outcome::kDrained, kExitDrained, 45, ""});
  EXPECT_EQ(LastOutcome(run())->outcome, Outcome::kDrained);
  EXPECT_EQ(LastOutcome(run())->step, 45);
}

}  // namespace
}  // namespace sgmd
