// sgmd-launch plan on what is shipped for real models, without their weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/storage/atomic_folder.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

const fs::path kLaunch = fs::path(SGMD_SOURCE_DIR) / "launch";

class PlanTest : public testing::Test {
 protected:
  PlanTest() { ::unsetenv("SGMD_MODELS"); }

  // Exit code and output of `sgmd-launch plan arguments...`.
  std::pair<int, std::string> Plan(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "plan");
    const Process process = run_.Launch(arguments);
    const int code = process.Wait(30);
    return {code, process.Output()};
  }
  // A shipped text file with one part in place of another, written beside the tiny run.
  void WriteChanged(const std::string& name, const fs::path& original, const std::vector<std::pair<std::string, std::string>>& changes) {
    std::string text = ReadFile(original);
    for (const auto& [from, to] : changes) {
      ASSERT_NE(text.find(from), std::string::npos) << from;
      for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
    }
    WriteFileAtomically(run_.folder() / name, text);
  }
  TinyRun run_{4};
};

TEST_F(PlanTest, EveryShippedTopologyFits) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(kLaunch / "topologies")) {
    const bool embedded = entry.path().filename().string().find("wan") == std::string::npos;
    std::vector<std::string> arguments{entry.path()};
    if (!embedded) arguments.emplace_back("--no-weights");
    const auto [code, output] = Plan(arguments);
    EXPECT_EQ(code, 0) << entry.path() << "\n" << output;
    EXPECT_THAT(output, HasSubstr("TFLOP/step"));
    EXPECT_THAT(output, testing::Not(HasSubstr("unknown"))) << "a device without stated memory";
    ++count;
  }
  EXPECT_GE(count, 6);
}

TEST_F(PlanTest, EveryShippedExperimentHasATopology) {
  std::string topologies;
  for (const auto& entry : fs::directory_iterator(kLaunch / "topologies")) topologies += ReadFile(entry.path());
  for (const auto& entry : fs::directory_iterator(kLaunch / "experiments")) {
    EXPECT_THAT(topologies, HasSubstr("experiments/" + entry.path().filename().string()));
  }
}

TEST_F(PlanTest, TeachersGetTheDevicesOfTheTopology) {
  const auto [code, output] = Plan({kLaunch / "topologies/wan2.1-t2v-1.3b-8x80gb.toml", "--no-weights"});
  EXPECT_EQ(code, 0);
  EXPECT_THAT(output, HasSubstr("--name teacher.0 --device cuda:2"));
  EXPECT_THAT(output, HasSubstr("--name teacher.5 --device cuda:7"));
}

TEST_F(PlanTest, FullyTrained14BIsRefusedWithAdvice) {
  const std::string models = (kLaunch / "models").string();
  WriteChanged("full.toml", kLaunch / "experiments/wan2.1-t2v-14b-lora-480p.toml", {{"rank = 64", "rank = 0"}, {"../models", models}});
  WriteChanged("big.toml", kLaunch / "topologies/wan2.1-t2v-14b-lora-480p-8x80gb.toml",
               {{"../experiments/wan2.1-t2v-14b-lora-480p.toml", "full.toml"}, {"checkpoint_blocks = true", "checkpoint_blocks = false"}});
  const std::string topology = run_.folder() / "big.toml";
  const auto [code, output] = Plan({topology, "--no-weights"});
  EXPECT_EQ(code, 2);
  EXPECT_THAT(output, HasSubstr("cuda:0 (generator) needs"));
  EXPECT_THAT(output, HasSubstr("1. [generator] and [fake_score] checkpoint_blocks = true"));
  EXPECT_THAT(output, HasSubstr("2. [lora] rank = 64"));
  EXPECT_THAT(output, HasSubstr("it fits"));
  EXPECT_EQ(Plan({topology, "--no-weights", "--allow-oversize"}).first, 0);
  const auto [slurm_code, slurm] = Plan({topology, "--no-weights", "--emit", "slurm"});
  EXPECT_EQ(slurm_code, 2);
  EXPECT_THAT(slurm, testing::Not(HasSubstr("#SBATCH")));
}

TEST_F(PlanTest, WithoutWeightsARealModelIsPlannedOnlyWhenAskedFor) {
  const fs::path topology = kLaunch / "topologies/wan2.1-t2v-1.3b-1x80gb.toml";
  const auto [code, output] = Plan({topology});
  EXPECT_EQ(code, 1);
  EXPECT_THAT(output, HasSubstr("SGMD_MODELS"));
  EXPECT_THAT(output, HasSubstr("--no-weights"));
}

}  // namespace
}  // namespace sgmd
