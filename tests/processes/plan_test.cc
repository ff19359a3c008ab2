// sgmd-launch plan on what is shipped for real models, without their weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "common/storage/atomic_folder.h"
#include "launch/run/exit_codes.h"
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
  void WriteChanged(const std::string& name, const fs::path& original,
                    const std::vector<std::pair<std::string, std::string>>& changes) {
    std::string text = ReadFile(original);
    for (const auto& [from, to] : changes) {
      ASSERT_NE(text.find(from), std::string::npos) << from;
      for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
        text.replace(at, from.size(), to);
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
  EXPECT_THAT(output, HasSubstr("\nteacher.0    cuda:0 "));
  EXPECT_THAT(output, HasSubstr("\nteacher.7    cuda:7 "));
  EXPECT_THAT(output, HasSubstr("\ngenerator/7  cuda:7 "));
  EXPECT_THAT(output, HasSubstr("\nbalance 1.00: "));
}

TEST_F(PlanTest, SeveralHostsAreShownOneByOneWithTheirMemory) {
  const auto [code, output] = Plan({kLaunch / "topologies/wan2.1-t2v-14b-lora-480p-2x8x80gb.toml", "--no-weights"});
  EXPECT_EQ(code, 0) << output;
  const std::size_t a = output.find("host a: sgmd-launch up --host a"),
                    b = output.find("host b: sgmd-launch up --host b");
  ASSERT_NE(b, std::string::npos) << output;
  for (const char* on_a : {"\nbroker", "\ngenerator    cuda:0 ", "\ngenerator/7  cuda:7 "}) {
    EXPECT_GT(output.find(on_a), a) << on_a;
    EXPECT_LT(output.find(on_a), b) << on_a;
  }
  for (const char* on_b : {"\nfake_score   cuda:0 ", "\nfake_score/7 cuda:7 ", "\nteacher.0    cuda:0 "})
    EXPECT_GT(output.find(on_b), b) << on_b;
  EXPECT_THAT(output, HasSubstr("generator     a/cuda:0"));
  EXPECT_THAT(output, HasSubstr("teacher.7     b/cuda:7"));
  EXPECT_THAT(output, HasSubstr("tcp://10.0.0.1:5555  tcp://10.0.0.1:5556  encrypted"));
}

TEST_F(PlanTest, WhatDoesNotFitNamesTheHost) {
  WriteChanged(
      "small.toml", kLaunch / "topologies/wan2.1-t2v-1.3b-2x1x80gb.toml",
      {{"../experiments", (kLaunch / "experiments").string()}, {"device_memory_gib = 79", "device_memory_gib = 32"}});
  const auto [code, output] = Plan({run_.folder() / "small.toml", "--no-weights"});
  EXPECT_EQ(code, 2) << output;
  EXPECT_THAT(output, HasSubstr("b/cuda:0 (fake_score, teacher.0) needs"));
  EXPECT_THAT(output, testing::Not(HasSubstr("a/cuda:0 (generator) needs")));
}

TEST_F(PlanTest, SlurmStartsOneLauncherANode) {
  const std::string topology = kLaunch / "topologies/wan2.1-t2v-14b-lora-480p-2x8x80gb.toml";
  const auto [code, script] = Plan({topology, "--no-weights", "--emit", "slurm", "--run-folder", run_.run()});
  EXPECT_EQ(code, 0);
  EXPECT_EQ(
      script,
      "#!/bin/bash\n#SBATCH --job-name=sgmd-wan2.1-t2v-14b-lora-480p\n#SBATCH --time=24:00:00\n"
      "#SBATCH --gres=gpu:8\n#SBATCH --output=" +
          run_.run().string() +
          "/logs/slurm-%j.log\n#SBATCH --requeue\n#SBATCH --open-mode=append\n"
          "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=1\n#SBATCH --exclusive\n#SBATCH --signal=TERM@300\n"
          "set -e\nexport SGMD_HEAD=${SGMD_HEAD:-$(hostname -I | cut -d' ' -f1)}\n# Node N of the job is host N of the "
          "topology.\n"
          "srun --cpu-bind=none --kill-on-bad-exit=0 bash -c 'hosts=(a b); exec \"$@\" --host "
          "\"${hosts[$SLURM_NODEID]}\"' host " SGMD_BIN_DIR "/sgmd-launch up " +
          topology + " --run-folder " + run_.run().string() + "\n");
}

// The script is run by bash as Slurm would, and its signal sent as Slurm would before the time is over.
TEST_F(PlanTest, SlurmsJobOnOneHostIsALauncherThatDrainsInTime) {
  TinyRun run(100000);
  const Process plan = run.Launch({"plan", run.topology(), "--emit", "slurm", "--time", "30:00"});
  ASSERT_EQ(plan.Wait(30), 0) << plan.Output();
  const std::string script = plan.Output();
  for (const char* part : {"#SBATCH --time=30:00\n", "#SBATCH --ntasks=1\n", "#SBATCH --cpus-per-task=4\n",
                           "#SBATCH --signal=B:TERM@300\n", "\nexec " SGMD_BIN_DIR "/sgmd-launch up "}) {
    EXPECT_THAT(script, HasSubstr(part));
  }
  EXPECT_THAT(script, testing::Not(HasSubstr("gpu")));
  EXPECT_TRUE(fs::is_directory(run.run() / "logs")) << "Slurm does not make the folder of its log";
  WriteFileAtomically(run.folder() / "job.sh", script);
  const Process job = run.Start({"/bin/bash", run.folder() / "job.sh"});
  ASSERT_TRUE(run.WaitForCheckpoint(5, 60)) << job.Output();
  ::kill(job.pid, SIGTERM);
  EXPECT_EQ(job.Wait(60), kExitDrained) << job.Output();
  EXPECT_THAT(job.Output(), HasSubstr("drained and checkpointed"));
}

TEST_F(PlanTest, SlurmsJobAsksForTheGpusOfTheTopology) {
  const auto [code, script] = Plan({kLaunch / "topologies/wan2.1-t2v-1.3b-8x80gb.toml", "--no-weights", "--emit",
                                    "slurm", "--run-folder", run_.run()});
  EXPECT_EQ(code, 0);
  EXPECT_THAT(script, HasSubstr("#SBATCH --gres=gpu:8\n"));
}

TEST_F(PlanTest, SlurmsNodesFindTheirHosts) {
  // The command of the script, with `echo` in the launcher's place.
  const auto [code, script] = Plan({kLaunch / "topologies/wan2.1-t2v-14b-lora-480p-2x8x80gb.toml", "--no-weights",
                                    "--emit", "slurm", "--run-folder", run_.run()});
  std::string command = script.substr(script.find("bash -c"));
  command = command.substr(0, command.find(SGMD_BIN_DIR)) + "echo up";
  for (const auto& [node, expected] : {std::pair{"0", "up --host a"}, {"1", "up --host b"}}) {
    const std::string said = run_.folder() / "said";
    ASSERT_EQ(std::system((std::string("SLURM_NODEID=") + node + " " + command + " > " + said).c_str()), 0);
    EXPECT_THAT(ReadFile(said), HasSubstr(expected));
  }
}

TEST_F(PlanTest, FullyTrained14BIsRefusedWithAdvice) {
  const std::string models = (kLaunch / "models").string();
  WriteChanged("full.toml", kLaunch / "experiments/wan2.1-t2v-14b-lora-480p.toml",
               {{"rank = 64", "rank = 0"}, {"generator = 2\nfake_score = 2", ""}, {"../models", models}});
  WriteChanged("big.toml", kLaunch / "topologies/wan2.1-t2v-1.3b-1x80gb.toml",
               {{"../experiments/wan2.1-t2v-1.3b.toml", "full.toml"},
                {"checkpoint_blocks = true", "checkpoint_blocks = false"}});
  const std::string topology = run_.folder() / "big.toml";
  const auto [code, output] = Plan({topology, "--no-weights"});
  EXPECT_EQ(code, 2);
  EXPECT_THAT(output, HasSubstr("cuda:0 (generator, fake_score, teacher.0) needs"));
  EXPECT_THAT(output, HasSubstr("1. a device each for generator, fake_score, teacher.0"));
  EXPECT_THAT(output, HasSubstr("2. [generator] and [fake_score] checkpoint_blocks = true"));
  EXPECT_THAT(output, HasSubstr("3. [lora] rank = 64"));
  EXPECT_THAT(output, HasSubstr("it fits"));
  EXPECT_EQ(Plan({topology, "--no-weights", "--allow-oversize"}).first, 0);
  const auto [slurm_code, slurm] = Plan({topology, "--no-weights", "--emit", "slurm"});
  EXPECT_EQ(slurm_code, 2);
  EXPECT_THAT(slurm, testing::Not(HasSubstr("#SBATCH")));
}

TEST_F(PlanTest, AlignmentOfAModelThatIsTooLargeToSendIsRefused) {
  const auto [code, output] =
      Plan({kLaunch / "topologies/wan2.1-t2v-1.3b-8x80gb.toml", "--no-weights", "--set", "objective.alignment=0.03"});
  EXPECT_EQ(code, 1);
  EXPECT_THAT(output,
              HasSubstr("--set objective.alignment=0.03: \"alignment\" is above 0, and the student's weights are "
                        "5675987200 bytes"));
  const auto [tiny_code, tiny] = Plan({run_.topology(), "--set", "objective.alignment=0.03"});
  EXPECT_EQ(tiny_code, 0) << tiny;
  EXPECT_THAT(tiny, HasSubstr("of weights a step from generator to fake_score"));
}

TEST_F(PlanTest, BalancedOverMachinesIsATopologyThatIsPlannedAgain) {
  const std::string models = (kLaunch / "models").string();
  for (const auto& [experiment, rack] : {std::pair{"wan2.1-t2v-1.3b", "8x80gb"}, {"wan2.1-t2v-14b-480p", "3x8x80gb"}}) {
    const std::string topology = kLaunch / "topologies" / (std::string("wan2.1-t2v-1.3b") + "-1x80gb.toml");
    WriteChanged("one.toml", topology,
                 {{"../experiments/wan2.1-t2v-1.3b.toml", (kLaunch / "experiments" / experiment).string() + ".toml"}});
    const auto [code, text] = Plan({run_.folder() / "one.toml", "--no-weights", "--balance", rack});
    ASSERT_EQ(code, 0) << text;
    EXPECT_THAT(text, HasSubstr(std::string("over ") + rack));
    WriteFileAtomically(run_.folder() / "balanced.toml", text);
    const auto [again, output] = Plan({run_.folder() / "balanced.toml", "--no-weights"});
    EXPECT_EQ(again, 0) << output;
    EXPECT_THAT(output, HasSubstr("generator/7"));
  }
  const auto [code, output] =
      Plan({kLaunch / "topologies/wan2.1-t2v-1.3b-1x80gb.toml", "--no-weights", "--balance", "8"});
  EXPECT_EQ(code, 1);
  EXPECT_THAT(output, HasSubstr("\"8\" names no machines"));
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
