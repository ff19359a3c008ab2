// Models of two experts by noise level: strict to the last bit over topologies, killed and replayed, and what is left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "common/error/error.h"
#include "common/storage/sharded_safetensors.h"
#include "launch/plan/memory_plan.h"
#include "launch/run/exit_codes.h"
#include "tests/support/experts_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

constexpr double kPatience = 120;
const std::string kHighAlone = "[schedule]\nexperts = \"high_noise\"\n",
                  kLowAlone = "[schedule]\nexperts = \"low_noise\"\n";

struct Case {
  const char* name;
  std::string experiment = "";
  std::string topology = "";
  int micro_batches = 3;
  std::string models = "";
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class TwoExperts : public testing::TestWithParam<Case> {};

TEST_P(TwoExperts, MatchTheSerialLoopAndTheirReplay) {
  const Case& c = GetParam();
  ExpertsRun run(10, c.experiment, c.topology, c.micro_batches, c.models);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  const Process replay = run.Launch({"replay", run.topology()});
  ASSERT_EQ(replay.Wait(kPatience), kExitFinished) << replay.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run().string() + "-replay"), TinyRun::NewestState(run.run()));
}

const std::string kTwoRanks =
    "[generator]\ndevices = [\"cpu\", \"cpu\"]\n[fake_score]\ndevices = [\"cpu\", \"cpu\"]\n"
    "[teacher]\nranks = 2\n";

INSTANTIATE_TEST_SUITE_P(
    With, TwoExperts,
    testing::Values(
        Case{"OneProcessEach"}, Case{"TwoTeachers", "", "[teacher]\nreplicas = 2\n"},
        Case{"GroupsOfRanks", "", kTwoRanks, 4}, Case{"AdaptersInGroups", "[lora]\nrank = 2\n", kTwoRanks, 4},
        Case{"LeasesOfBothExpertsInOneTeacherGroup", "[outer]\nmax_staleness = 2\n", "[teacher]\nranks = 4\n", 2},
        Case{"PairedSamples", "[inner]\nsource = \"paired\"\n"}, Case{"FreshRollouts", "[inner]\nsource = \"fresh\"\n"},
        Case{"SamplesUsedFiveTimes", "[outer]\nreuse = 5\n"},
        Case{"AnchorsOnBothSides", "[diversity]\nweight = 0.5\nnoise_bank = 16\nanchor_grid = 8\nanchor_steps = 7\n"},
        Case{"AGuidanceForEach", "[diversity]\nweight = 0.5\nnoise_bank = 16\nanchor_grid = 8\nanchor_steps = 7\n", "",
             3, "guidance_low = 3.5\n"},
        Case{"Alignment", "[objective]\nname = \"dmd2\"\nalignment = 0.03\n"},
        Case{"IntoOneTransformer", "", "", 3, "student = \"model\"\nfake_score = \"model\"\n"},
        Case{"HighNoiseAlone", kHighAlone}, Case{"LowNoiseAloneInGroups", kLowAlone, kTwoRanks, 4}),
    [](const auto& info) { return info.param.name; });

class RoleOfTwoExpertsDies : public testing::TestWithParam<const char*> {};

TEST_P(RoleOfTwoExpertsDies, AndTheRunGoesOnToTheSameWeights) {
  ExpertsRun run(60);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill(GetParam())) << up.Output();
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

INSTANTIATE_TEST_SUITE_P(Kill, RoleOfTwoExpertsDies,
                         testing::Values("sgmd-generator", "sgmd-fake-score", "sgmd-teacher"),
                         [](const auto& info) { return std::regex_replace(info.param, std::regex("-"), "_"); });

bool SameWeights(const std::filesystem::path& one, const std::filesystem::path& other) {
  const auto a = ShardedSafetensors::Open(one / "diffusion_pytorch_model.safetensors"),
             b = ShardedSafetensors::Open(other / "diffusion_pytorch_model.safetensors");
  return std::ranges::all_of(
      a.tensors(), [&](const TensorView& view) { return std::ranges::equal(view.bytes, b.At(view.name).bytes); });
}

TEST(StudentOfTwoExperts, HasBoth) {
  ExpertsRun run(8);
  ASSERT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), kExitFinished);
  const std::vector<Expert> experts = FindExperts(run.run() / "student");
  ASSERT_EQ(experts.size(), 2U);
  for (const Expert& expert : experts)
    EXPECT_FALSE(SameWeights(expert.model, run.folder() / "experts" / expert.name)) << expert.name;
}

// The second run starts from the first one's student: what the first trained, the second rolls out through.
TEST(StudentOfTwoExperts, IsTrainedOneExpertARun) {
  ExpertsRun high(4, kHighAlone);
  ASSERT_EQ(high.Launch({"up", high.topology()}).Wait(kPatience), kExitFinished);
  const std::filesystem::path first = high.run() / "student", start = high.folder() / "experts";
  EXPECT_TRUE(SameWeights(first / kLowNoiseExpert, start / kLowNoiseExpert));
  EXPECT_FALSE(SameWeights(first / kHighNoiseExpert, start / kHighNoiseExpert));

  ExpertsRun low(4, kLowAlone);
  const Process up = low.Launch({"up", low.topology(), "--set", StrCat("model.student=\"", first.string(), "\"")});
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_TRUE(SameWeights(low.run() / "student" / kHighNoiseExpert, first / kHighNoiseExpert));
  EXPECT_FALSE(SameWeights(low.run() / "student" / kLowNoiseExpert, first / kLowNoiseExpert));
}

MemoryNeed NeedOf(const ExpertsRun& run, const std::string& process) {
  const LaunchPlan plan = LoadLaunchPlan(run.topology());
  const MemoryPlan memory = PlanMemory(plan, RoleConfigs(plan.experiment), 0);
  return std::ranges::find(memory.processes, process, &ProcessMemory::process)->need;
}

TEST(PlanOfTwoExperts, CountsWhatEachRoleHolds) {
  ExpertsRun both(2), low(2, kLowAlone);
  const MemoryNeed alone = NeedOf(low, "fake_score"), pair = NeedOf(both, "fake_score");
  EXPECT_EQ(pair.weights, 2 * alone.weights);
  EXPECT_EQ(pair.gradients, alone.gradients) << "an update is of one";
  EXPECT_EQ(pair.optimizer, 2 * alone.optimizer);
  EXPECT_EQ(NeedOf(both, "teacher.0").weights, 2 * NeedOf(low, "teacher.0").weights);
  EXPECT_EQ(NeedOf(low, "generator").weights, 2 * alone.weights) << "it rolls out through the other";
  EXPECT_EQ(NeedOf(low, "generator").ema, NeedOf(both, "generator").ema / 2);
}

TEST(PlanOfTwoExperts, SaysWhichAreTrained) {
  ExpertsRun both(2), low(2, kLowAlone);
  const auto text = [](ExpertsRun& run) {
    const Process plan = run.Launch({"plan", run.topology()});
    EXPECT_EQ(plan.Wait(kPatience), 0);
    return plan.Output();
  };
  EXPECT_THAT(text(both), HasSubstr("both are trained, that of high noise from sigma 0.875"));
  EXPECT_THAT(text(low), HasSubstr("the low-noise one alone is trained"));
}

class RefusedExperts : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(RefusedExperts, AreRefusedWithPlaceAndReason) {
  ExpertsRun run(2, GetParam().first);
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(kPatience), kExitRefused);
  EXPECT_THAT(up.Output(), testing::AllOf(HasSubstr("experiment.toml:"), HasSubstr(GetParam().second)));
}

INSTANTIATE_TEST_SUITE_P(
    Where, RefusedExperts,
    testing::Values(std::pair("[schedule]\nexit_weights = [1, 1, 0, 0]\n", "no rollout can end below the boundary"),
                    std::pair("[schedule]\nscore_sigma_min = 0.9\n", "no noise level of scores"),
                    std::pair("[schedule]\nexperts = \"low_noise\"\n[diversity]\nweight = 1\nnoise_bank = 16\n",
                              "the diversity loss trains the first step")),
    [](const auto& info) { return StrCat("Case", info.index); });

TEST(OneTransformer, HasNoExpertsToChoose) {
  TinyRun run(2, kHighAlone), boundary(2);
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(kPatience), kExitRefused);
  EXPECT_THAT(up.Output(), HasSubstr("no model here is two experts"));
  const Process other = boundary.Launch({"up", boundary.topology(), "--set", "model.boundary=0.9"});
  EXPECT_EQ(other.Wait(kPatience), kExitRefused);
  EXPECT_THAT(other.Output(), HasSubstr("no model here is two experts"));
}

}  // namespace
}  // namespace sgmd
