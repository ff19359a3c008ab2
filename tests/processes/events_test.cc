// What a run writes for TensorBoard.
#include <gtest/gtest.h>

#include <cstring>

#include "common/storage/atomic_folder.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

constexpr double kPatience = 120;
constexpr std::size_t kSteps = 8, kMicroBatches = 3;

// Values of a scalar in the order in which they were written: in the bytes of its record, field 1 (the tag) comes
// before field 2 (a float).
std::vector<float> ScalarsOf(const std::filesystem::path& run, const std::string& role, const std::string& tag) {
  std::vector<float> values;
  const std::string key = std::string("\x0a") + static_cast<char>(tag.size()) + tag + "\x15";
  for (const auto& file : std::filesystem::directory_iterator(run / "events" / role)) {
    const std::string bytes = ReadFile(file.path());
    for (std::size_t at = bytes.find(key); at != std::string::npos; at = bytes.find(key, at + 1)) {
      std::memcpy(&values.emplace_back(), bytes.data() + at + key.size(), sizeof(float));
    }
  }
  return values;
}

std::vector<float> Steady(float value) { return std::vector<float>(kSteps, value); }

TEST(Events, OfAStrictRunSayHowItWent) {
  TinyRun run(kSteps, "[diversity]\nweight = 0.5\nnoise_bank = 24\n");  // every anchor once in 4 steps
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  for (const char* tag :
       {"loss/generator", "loss/diversity", "time/step_sec", "grad_norm/student", "learning_rate/generator"}) {
    EXPECT_EQ(ScalarsOf(run.run(), "generator", tag).size(), kSteps) << tag;
  }
  for (const char* tag : {"loss/fake_score", "grad_norm/critic", "learning_rate/fake_score"}) {
    EXPECT_EQ(ScalarsOf(run.run(), "fake_score", tag).size(), kSteps) << tag;
  }
  EXPECT_EQ(ScalarsOf(run.run(), "generator", "pipeline/staleness"), Steady(0));
  EXPECT_EQ(ScalarsOf(run.run(), "generator", "pipeline/in_flight"), Steady(kMicroBatches));
  EXPECT_EQ(ScalarsOf(run.run(), "generator", "cache/hit_rate"), Steady(0));
  const std::vector<float> hits = ScalarsOf(run.run(), "generator", "cache/anchor_hit_rate");
  ASSERT_EQ(hits.size(), kSteps);
  for (std::size_t step = 0; step < kSteps; ++step) EXPECT_FLOAT_EQ(hits[step], step < 4 ? 0 : 1) << step;

  const Process replay = run.Launch({"replay", run.topology()});
  ASSERT_EQ(replay.Wait(kPatience), 0) << replay.Output();
  for (const char* tag : {"cache/hit_rate", "cache/anchor_hit_rate"}) {
    const std::vector<float> rates = ScalarsOf(run.run().string() + "-replay", "generator", tag);
    ASSERT_EQ(rates.size(), kSteps);
    for (const float rate : rates) EXPECT_FLOAT_EQ(rate, 1) << tag;
  }
}

TEST(Events, OfAPipelinedRunShowItsStaleness) {
  TinyRun run(kSteps, "[outer]\nmax_staleness = 1\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  const std::vector<float> staleness = ScalarsOf(run.run(), "generator", "pipeline/staleness");
  const std::vector<float> in_flight = ScalarsOf(run.run(), "generator", "pipeline/in_flight");
  ASSERT_EQ(staleness.size(), kSteps);
  ASSERT_EQ(in_flight.size(), kSteps);
  for (std::size_t step = 0; step < kSteps; ++step) {
    const bool last = step + 1 == kSteps || step + 1 == 5;  // before the checkpoint of step 5
    EXPECT_FLOAT_EQ(staleness[step], step % 5 == 0 ? 0 : 1) << step;
    EXPECT_EQ(in_flight[step], last ? kMicroBatches : 2 * kMicroBatches) << step;
  }
  EXPECT_TRUE(ScalarsOf(run.run(), "generator", "loss/diversity").empty());
}

}  // namespace
}  // namespace sgmd
