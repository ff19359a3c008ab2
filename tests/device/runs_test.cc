// Whole runs on GPUs of the stand-in, whose backward pass of attention rounds differently every time unless determinism
// is asked for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/experts_run.h"
#include "tests/support/image_run.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr double kPatience = 120;
constexpr std::int64_t kKeptWidth = 48;  // heads of 24, a multiple of 8: attention can be kept
constexpr char kHalf[] = "[precision]\ncompute = \"bfloat16\"\n";
constexpr char kOneGpu[] =
    "[generator]\ndevice = \"cuda:0\"\n[fake_score]\ndevice = \"cuda:0\"\n"
    "[teacher]\ndevice = \"cuda:0\"\n";
constexpr char kTwoGpus[] =
    "[generator]\ndevice = \"cuda:0\"\n[fake_score]\ndevice = \"cuda:1\"\n"
    "[teacher]\nreplicas = 2\ndevices = [\"cuda:0\", \"cuda:1\"]\n";
constexpr char kGroups[] =
    "[generator]\ndevices = [\"cuda:0\", \"cuda:1\"]\nkeep_attention = \"always\"\n"
    "[fake_score]\ndevices = [\"cuda:0\", \"cuda:1\"]\nkeep_attention = \"never\"\nkeep_blocks = 1\n"
    "[teacher]\nranks = 2\ndevices = [\"cuda:0\", \"cuda:1\"]\n";

class DeviceRuns : public testing::Test {
 protected:
  DeviceRuns() { ::setenv("SGMD_STAND_IN_JITTER", "1", 1); }
  ~DeviceRuns() override {
    for (const char* name : {"SGMD_STAND_IN_JITTER", "SGMD_STAND_IN_BYTES", "SGMD_STAND_IN_REPORT"}) ::unsetenv(name);
  }

  // The weights of a run that `up` has finished.
  static std::string Finished(TinyRun& run) {
    const Process up = run.Launch({"up", run.topology()});
    EXPECT_EQ(up.Wait(kPatience), 0) << up.Output();
    return TinyRun::NewestState(run.run());
  }
};

TEST_F(DeviceRuns, AreBitwiseTheSameOverTopologiesAndReplay) {
  TinyRun one(7, kHalf, kOneGpu), two(7, kHalf, kTwoGpus);
  const std::string state = Finished(one);
  EXPECT_FALSE(state.empty());
  EXPECT_THAT(ReadFile(one.run() / "logs" / "generator.log"), HasSubstr("; by plan "));
  EXPECT_EQ(Finished(two), state);
  const Process replay = two.Launch({"replay", two.topology()});
  ASSERT_EQ(replay.Wait(kPatience), 0) << replay.Output();
  EXPECT_EQ(TinyRun::NewestState(two.run().string() + "-replay"), state);
}

TEST_F(DeviceRuns, OfGroupsThatAreKilledAreBitwiseTheSame) {
  TinyRun one(12, kHalf, kOneGpu), groups(12, kHalf, kGroups);
  for (const TinyRun* run : {&one, &groups}) {
    WriteTinyModel(run->folder() / "model", 1, kKeptWidth);
    std::string text = ReadFile(run->folder() / "experiment.toml");
    text.replace(text.find("micro_batches = 3"), 17, "micro_batches = 4");  // which two ranks can share
    WriteFileAtomically(run->folder() / "experiment.toml", text);
  }
  const Process up = groups.Launch({"up", groups.topology()});
  ASSERT_TRUE(groups.WaitForCheckpoint(5, kPatience)) << up.Output();
  EXPECT_TRUE(groups.Kill("fake_score/1"));
  ASSERT_EQ(up.Wait(kPatience), 0) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(groups.run()), Finished(one));
}

TEST_F(DeviceRuns, OfTwoExpertsAreBitwiseTheSame) {
  const std::string offloaded = std::string(kOneGpu) + "offload = true\n";
  ExpertsRun one(7, kHalf, kOneGpu, 4), groups(7, kHalf, kGroups, 4), from_host(7, kHalf, offloaded, 4);
  for (const ExpertsRun* run : {&one, &groups, &from_host}) WriteTinyExperts(run->folder() / "experts", kKeptWidth);
  const std::string state = Finished(one);
  EXPECT_EQ(Finished(groups), state);
  EXPECT_EQ(Finished(from_host), state);
}

TEST_F(DeviceRuns, WithOffloadedTeachersAreBitwiseTheSameAndReplay) {
  TinyRun one(7, kHalf, kOneGpu), offloaded(7, kHalf, std::string(kTwoGpus) + "offload = true\n");
  const std::string state = Finished(one);
  EXPECT_EQ(Finished(offloaded), state);
  const Process replay = offloaded.Launch({"replay", offloaded.topology()});
  ASSERT_EQ(replay.Wait(kPatience), 0) << replay.Output();
  EXPECT_EQ(TinyRun::NewestState(offloaded.run().string() + "-replay"), state);
}

TEST_F(DeviceRuns, WithFirstFramesAreBitwiseTheSame) {
  constexpr char kShared[] =
      "[generator]\ndevices = [\"cuda:0\", \"cuda:1\"]\n[fake_score]\ndevices = [\"cuda:0\", \"cuda:1\"]\n"
      "[teacher]\nranks = 2\ndevices = [\"cuda:0\", \"cuda:1\"]\n";
  for (const FirstFrameForm form : {FirstFrameForm::kWithClip, FirstFrameForm::kHeld}) {
    ImageRun one(5, form, kHalf, kOneGpu, 4), groups(5, form, kHalf, kShared, 4);
    EXPECT_EQ(Finished(groups), Finished(one));
  }
}

// Shows that the emulated jitter is there, which the tests above are about.
TEST_F(DeviceRuns, WithoutDeterminismDiffer) {
  const std::string fast = std::string(kHalf) + "deterministic = false\n";
  TinyRun first(7, fast, kOneGpu), second(7, fast, kOneGpu);
  EXPECT_NE(Finished(first), Finished(second));
}

TEST_F(DeviceRuns, KeepScoresOfGpusApartFromThoseOfTheCpu) {
  TinyRun run(4, "", "[teacher]\ndevice = \"cuda:0\"\n");
  Finished(run);
  WriteFileAtomically(run.topology(), "[run]\nexperiment = \"experiment.toml\"\nfolder = \"run\"\n");
  const Process replay = run.Launch({"replay", run.topology()});
  EXPECT_NE(replay.Wait(kPatience), 0);
  EXPECT_THAT(replay.Output(), AllOf(HasSubstr("the score cache holds nothing of"), HasSubstr("on cuda")));
}

TEST_F(DeviceRuns, ThatDoNotFitNameTheCauseAndTheWayOut) {
  ::setenv("SGMD_STAND_IN_BYTES", "300000", 1);
  TinyRun run(4, "", kOneGpu);
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(kPatience), 1);
  EXPECT_THAT(up.Output(), AllOf(HasSubstr("failed with exit code 1"), HasSubstr("error: CUDA out of memory"),
                                 HasSubstr("sgmd-launch plan <topology>"), testing::Not(HasSubstr("frame #"))));
}

TEST_F(DeviceRuns, OnAGpuThatIsNotThereNameIt) {
  TinyRun run(4, "", "[fake_score]\ndevice = \"cuda:5\"\n");
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(kPatience), 1);
  EXPECT_THAT(up.Output(), HasSubstr("cuda:5: there is no such device: this process sees 2 GPUs"));
}

// What each program counted, in a run of `steps` steps.
std::map<std::string, nlohmann::json> Counts(std::int64_t steps, const std::string& topology = kOneGpu) {
  const TempFolder folder;
  ::setenv("SGMD_STAND_IN_REPORT", (folder / "report").c_str(), 1);
  TinyRun run(steps, kHalf, topology);
  WriteTinyModel(run.folder() / "model", 1, kKeptWidth);
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(kPatience), 0) << up.Output();
  std::map<std::string, nlohmann::json> counts;
  std::ifstream lines(folder / "report");
  for (std::string line; std::getline(lines, line);) {
    const auto count = nlohmann::json::parse(line);
    counts[count.at("program")] = count;
  }
  return counts;
}

// Each waits for everything before it: the fake score reads three numbers of a gradient and a loss of each of three
// micro-batches; norms are copied, like what is sent.
TEST_F(DeviceRuns, ReadFromTheDeviceOnlyLossesAndNorms) {
  auto few = Counts(6), many = Counts(9);  // each with a checkpoint at its fifth step and its last
  const auto of_a_step = [&](const char* program, const char* what) {
    return (many.at(program).at(what).get<double>() - few.at(program).at(what).get<double>()) / 3;
  };
  EXPECT_EQ(of_a_step("sgmd-teacher", "host_reads"), 0);
  EXPECT_EQ(of_a_step("sgmd-generator", "host_reads"), 0);
  EXPECT_EQ(of_a_step("sgmd-fake-score", "host_reads"), 3 * (3 + 1));
  // Tensors that are sent are copied once, into memory that the device writes by itself.
  EXPECT_EQ(of_a_step("sgmd-teacher", "to_host_copies"), 3);
  EXPECT_LE(of_a_step("sgmd-generator", "to_host_copies"), 3 + 6);  // and norms of the tensors by grains
  for (const char* program : {"sgmd-teacher", "sgmd-generator", "sgmd-fake-score"})
    EXPECT_GE(of_a_step(program, "pinned_copies"), 3) << program;
}

// Of each of 3 micro-batches in each of 3 steps a pass of 2 blocks.
TEST_F(DeviceRuns, CopyTheBlocksOfAnOffloadedTeacherForEachPass) {
  const auto copies = [](const std::string& offload) {
    const auto of = [&](std::int64_t steps) {
      return Counts(steps, kOneGpu + offload).at("sgmd-teacher").at("to_device_copies").get<int>();
    };
    return of(6) - of(3);
  };
  EXPECT_EQ(copies("offload = true\n") - copies(""), 3 * 3 * 2);
}

TEST_F(DeviceRuns, DoNotComputeAttentionAgainThatIsKept) {
  const auto attentions = [](const char* keep, int blocks = 0) {
    const std::string again =
        StrCat("checkpoint_blocks = true\nkeep_attention = \"", keep, "\"\nkeep_blocks = ", blocks, "\n");
    auto counts = Counts(2, StrCat("[generator]\ndevice = \"cuda:0\"\nkeep_exit_graphs = 0\n", again,
                                   "[fake_score]\ndevice = \"cuda:0\"\n", again));
    EXPECT_EQ(counts.at("sgmd-generator").at("attention").at("flash").get<int>(), 1) << "that of cuDNN's trial";
    return std::pair(counts.at("sgmd-generator").at("operators").at("attention").get<int>(),
                     counts.at("sgmd-fake-score").at("operators").at("attention").get<int>());
  };
  const auto [generator, fake_score] = attentions("never");
  const auto [generator_kept, fake_score_kept] = attentions("always");
  // In each of 2 steps 3 micro-batches go back through 2 blocks, once in the generator and twice in the fake score.
  EXPECT_EQ(generator - generator_kept, 2 * 3 * 2);
  EXPECT_EQ(fake_score - fake_score_kept, 2 * 3 * 2 * 2);
  const auto [generator_block, fake_score_block] = attentions("never", 1);
  EXPECT_EQ(generator - generator_block, 2 * 3 * 1 * 2) << "of a block that is kept, both of its attentions";
  EXPECT_EQ(fake_score - fake_score_block, 2 * 3 * 1 * 2 * 2);
}

}  // namespace
}  // namespace sgmd
