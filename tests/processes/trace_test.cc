// `up --trace`: where the time of a step goes, over all processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config/run_folder.h"
#include "launch/run/step_trace.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;
constexpr double kPatience = 120;

std::vector<std::string> ProcessesOf(const StepTrace& trace) {
  std::vector<std::string> names;
  for (const NamedTime& time : trace.main_threads) names.push_back(time.process);
  return names;
}

TEST(Trace, NamesNearlyAllTimeOfEveryProcess) {
  TinyRun run(12);
  const Process up = run.Launch({"up", run.topology(), "--allow-oversize", "--trace", "steps=6@4"});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("trace of steps 4 to 9, "));
  const RunFolder folder{run.run()};
  EXPECT_TRUE(std::filesystem::exists(folder.Trace()));
  const StepTrace trace = *ReadStepTrace(folder.Traces());
  EXPECT_THAT(ProcessesOf(trace), UnorderedElementsAre("broker", "fake_score", "generator", "teacher.0"));
  for (const NamedTime& time : trace.main_threads) EXPECT_GE(time.named, 0.95) << time.process;
}

TEST(Trace, ARunThatIsTracedEndsInTheSameWeights) {
  TinyRun run(6);
  const Process up = run.Launch({"up", run.topology(), "--allow-oversize", "--trace", "steps=2"});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(Trace, StepsThatCannotBeReadAreRefusedBeforeAnythingStarts) {
  TinyRun run(2);
  const Process up = run.Launch({"up", run.topology(), "--trace", "step=3"});
  EXPECT_EQ(up.Wait(kPatience), 2);
  EXPECT_THAT(up.Output(), HasSubstr("steps=3@10"));
  EXPECT_FALSE(std::filesystem::exists(run.run()));
}

}  // namespace
}  // namespace sgmd
