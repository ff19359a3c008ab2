#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>

#include "nodes/simulator/simulation.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

SimulationOptions Small() {
  SimulationOptions options;
  options.broker = SGMD_BIN_DIR "/sgmd-broker";
  options.teachers = 3;
  options.steps = 4;
  options.sample_bytes = 4096;
  options.teacher_ms = 5;
  return options;
}

SimulationReport Simulated(const SimulationOptions& options) {
  const StopRequests stop;
  return Simulate(options, stop);
}

TEST(Simulator, AnswersEverySampleOnce) {
  SimulationOptions options = Small();
  options.max_staleness = 1;
  options.cache = true;
  const SimulationReport report = Simulated(options);
  EXPECT_TRUE(report.Whole()) << ToTable(report);
  EXPECT_EQ(report.gradients.came(), 4 * 12);
  EXPECT_EQ(report.step_seconds.size(), 4U);
  EXPECT_EQ(report.cache_entries, 4 * 12);
  EXPECT_EQ(report.redispatched, 0);
  EXPECT_GT(report.status.answer_ms.size(), 1U);
}

TEST(Simulator, TellsTheBrokersTimeAndMemoryFromItsOwn) {
  SimulationOptions options = Small();
  options.sample_bytes = 4 << 20;
  options.teachers = 8;
  options.steps = 1;
  options.teacher_ms = 1;
  options.reader_delay_ms = 30;  // so that the broker holds most of 32 samples at once
  const SimulationReport report = Simulated(options);
  EXPECT_TRUE(report.Whole()) << ToTable(report);
  EXPECT_GT(report.broker_cpu_seconds, 0);
  // x_g, x_s and velocity of a sample are 12 MiB.
  EXPECT_GT(report.broker_peak_bytes - report.broker_start_bytes, 10 * (12 << 20)) << ToTable(report);
}

TEST(Simulator, LosesNoSampleOfATeacherThatDies) {
  SimulationOptions options = Small();
  options.killed = {1, 3};
  options.silence_seconds = 1;
  const SimulationReport report = Simulated(options);
  EXPECT_TRUE(report.Whole()) << ToTable(report);
  EXPECT_GE(report.redispatched, 1);
  // The step of the death waits until it is noticed, the others do not.
  EXPECT_GT(Quantile(report.step_seconds, 1), 0.9);
  EXPECT_LT(Quantile(report.step_seconds, 0.5), 0.9);
}

TEST(Simulator, SaysAfterWhatTimeTheLeaseOfAHungTeacherIsWithAnother) {
  SimulationOptions options = Small();
  options.micro_batches = 48;
  options.steps = 1;
  options.teacher_ms = 20;
  options.hung = {1, 10};  // by then it is known how long an answer takes
  const SimulationReport report = Simulated(options);
  EXPECT_TRUE(report.Whole()) << ToTable(report);
  ASSERT_EQ(report.elsewhere_seconds.size(), 1U);
  EXPECT_GT(report.elsewhere_seconds[0], 0.3) << "a lease is not slow before half a second";
  EXPECT_LT(report.elsewhere_seconds[0], 3);
}

TEST(Simulator, HoldsAStepUpNoLongerThanASlowTeachersTwoLeases) {
  SimulationOptions options = Small();
  options.teachers = 4;
  options.micro_batches = 48;
  options.steps = 2;
  options.teacher_ms = 20;
  options.slow = {1, 10};
  const SimulationReport report = Simulated(options);
  EXPECT_TRUE(report.Whole()) << ToTable(report);
  EXPECT_GE(Quantile(report.step_seconds, 0), 0.3);
  EXPECT_LT(Quantile(report.step_seconds, 1), 1.2) << "a quarter of the samples, 12, would take it 2.4 s";
}

TEST(Simulator, SaysWhatIsLostWhenNothingComesAnyMore) {
  SimulationOptions options = Small();
  options.steps = 1;
  options.teacher_ms = 60e3;
  options.patience_seconds = 0.5;
  const SimulationReport report = Simulated(options);
  EXPECT_FALSE(report.Whole());
  EXPECT_EQ(report.gradients.open(), 12);
}

TEST(Simulator, LeavesNoFileAndSaysWhyTheBrokerEnded) {
  const TempFolder folder;
  ::setenv("TMPDIR", folder.path().c_str(), 1);
  SimulationOptions options = Small();
  Simulated(options);
  EXPECT_TRUE(fs::is_empty(folder.path()));
  options.broker = "/bin/false";
  EXPECT_THAT(ErrorOf([&] { Simulated(options); }), testing::HasSubstr("the broker has ended"));
  EXPECT_TRUE(fs::is_empty(folder.path()));
  ::unsetenv("TMPDIR");
}

TEST(Ledger, CountsWhatIsLostDoubledAndWrong) {
  Ledger ledger;
  ledger.Expect({0, 0});
  ledger.Expect({0, 1});
  ledger.Expect({1, 0});
  ledger.Came({0, 0}, true);
  ledger.Came({0, 0}, true);
  ledger.Came({1, 0}, false);
  ledger.Came({2, 0}, true);
  EXPECT_EQ(ledger.open(), 1);
  EXPECT_EQ(ledger.OpenOf(0), 1);
  EXPECT_EQ(ledger.OpenOf(1), 0);
  EXPECT_EQ(ledger.doubled(), 2);
  EXPECT_EQ(ledger.wrong(), 1);
}

TEST(SampleSource, GivesEveryTicketValuesOfItsOwn) {
  const SampleSource source(64, 3);
  const message::Sample a = source.Of({0, 0}), b = source.Of({0, 1}), c = source.Of({1, 0});
  EXPECT_TRUE(SameBytes(a.x_s, source.Of({0, 0}).x_s));
  EXPECT_FALSE(SameBytes(a.x_g, b.x_g));
  EXPECT_FALSE(SameBytes(a.x_g, c.x_g));
  EXPECT_FALSE(SameBytes(a.x_g, a.x_s));
  EXPECT_FALSE(SameBytes(a.prompts, b.prompts));
  EXPECT_TRUE(AllFinite(a.x_g.view));
}

TEST(Simulator, IsAProgramThatPrintsJson) {
  FILE* const pipe = ::popen(SGMD_BIN_DIR "/sgmd-simulate --teachers 2 --steps 2 --teacher-ms 1 --json", "r");
  ASSERT_NE(pipe, nullptr);
  std::string text(1 << 16, '\0');
  text.resize(::fread(text.data(), 1, text.size(), pipe));
  EXPECT_EQ(WEXITSTATUS(::pclose(pipe)), 0);
  const auto json = nlohmann::json::parse(text);
  EXPECT_TRUE(json.at("whole"));
  EXPECT_EQ(json.at("gradients").at("came"), 16);
}

}  // namespace
}  // namespace sgmd
