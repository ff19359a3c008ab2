// A role that several processes share gives the weights of the serial loop, bit for bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <regex>

#include "common/digest/digest.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "launch/plan/group_traffic.h"
#include "launch/plan/memory_plan.h"
#include "launch/run/exit_codes.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr double kPatience = 150;
constexpr std::int64_t kWidth = 192;  // of the model: a block has seven grains

std::string Devices(const char* section, int ranks) {
  std::string devices;
  for (int rank = 0; rank < ranks; ++rank) devices += rank == 0 ? "\"cpu\"" : ", \"cpu\"";
  return StrCat("[", section, "]\ndevices = [", devices, "]\n");
}

// A tiny run of four micro-batches, with so many ranks of generator and fake score.
class GroupRun : public TinyRun {
 public:
  GroupRun(std::int64_t steps, int generator, int fake_score, const std::string& experiment = "",
           const std::string& topology = "")
      : TinyRun(steps, experiment, topology) {
    WriteTinyModel(folder() / "model", 1, kWidth);
    Edit("experiment.toml", "micro_batches = 3", "micro_batches = 4");
    Edit("experiment.toml", "every = 5", "every = 4");
    text_ = ReadFile(this->topology());
    SetRanks(generator, fake_score);
  }
  void SetRanks(int generator, int fake_score) {
    WriteFileAtomically(topology(), text_ + Devices("generator", generator) + Devices("fake_score", fake_score));
  }
  void Edit(const char* file, const std::string& from, const std::string& to) {
    std::string text = ReadFile(folder() / file);
    text.replace(text.find(from), from.size(), to);
    WriteFileAtomically(folder() / file, text);
  }

 private:
  std::string text_;
};

void ExpectSerialWeights(GroupRun& run, const std::vector<std::string>& options = {}) {
  std::vector<std::string> command{"up", run.topology()};
  command.insert(command.end(), options.begin(), options.end());
  const Process up = run.Launch(command);
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  EXPECT_TRUE(std::filesystem::exists(run.run() / "student" / "config.json"));
}

struct Case {
  const char* name;
  int generator, fake_score;
  const char* experiment = "";
  const char* topology = "";
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class Group : public testing::TestWithParam<Case> {};

TEST_P(Group, MatchesTheSerialLoop) {
  const Case& c = GetParam();
  GroupRun run(4, c.generator, c.fake_score, c.experiment, c.topology);
  ExpectSerialWeights(run);
}

constexpr char kAnyExit[] = "[schedule]\nexit_weights = [1, 1, 1, 1]\n";

INSTANTIATE_TEST_SUITE_P(
    Of, Group,
    testing::Values(
        Case{"TwoAndOne", 2, 1}, Case{"OneAndTwo", 1, 2}, Case{"TwoAndTwo", 2, 2, "", "[teacher]\nreplicas = 2\n"},
        Case{"FourAndTwo", 4, 2}, Case{"AnyExit", 2, 2, kAnyExit}, Case{"Adapters", 2, 2, "[lora]\nrank = 2\n"},
        Case{"Bfloat16", 2, 2, "[precision]\ncompute = \"bfloat16\"\n"},
        Case{"Bfloat16Adapters", 2, 2, "[precision]\ncompute = \"bfloat16\"\n[lora]\nrank = 2\n"},
        Case{"Diversity", 2, 2, "[diversity]\nweight = 0.5\nnoise_bank = 16\n"},
        Case{"NewNoiseAtEachStep", 2, 2, "[schedule]\nrollout = \"renoise\"\nexit_weights = [1, 1, 1, 1]\n"},
        Case{"Paired", 2, 2, "[inner]\nsource = \"paired\"\n"},
        Case{"Fresh", 2, 2, "[inner]\nsource = \"fresh\"\nupdates = 2\n[schedule]\nexit_weights = [1, 1, 1, 1]\n"},
        Case{"Replay", 2, 2, "[inner]\nsource = \"replay\"\nupdates = 2\nmax_age = 2\n"},
        Case{"Reuse", 2, 2, "[outer]\nreuse = 2\n"}, Case{"Alignment", 2, 2, "[objective]\nalignment = 0.25\n"}),
    [](const auto& info) { return info.param.name; });

TEST(Groups, ThatRunExitStepsAgainMatchTheSerialLoop) {
  for (const char* kept : {"generator.keep_exit_graphs=0", "generator.keep_exit_graphs=3"}) {
    GroupRun run(4, 2, 1, kAnyExit);
    ExpectSerialWeights(run, {"--set", kept});
  }
}

// Where it is not said, a plan finds room for the graphs of all blocks of so small a model, and none runs again.
TEST(Groups, ThatRunBlocksAgainMatchTheSerialLoop) {
  for (const char* experiment : {"", "[inner]\nsource = \"paired\"\n[lora]\nrank = 2\n"}) {
    for (const char* kept : {"0", "1"}) {
      GroupRun run(4, 2, 2, experiment);
      ExpectSerialWeights(
          run, {"--set", StrCat("generator.keep_blocks=", kept), "--set", StrCat("fake_score.keep_blocks=", kept)});
    }
  }
}

TEST(Groups, GoOnWithAnyOtherNumberOfRanks) {
  GroupRun run(8, 4, 1);
  run.Edit("experiment.toml", "every = 4", "every = 2");
  const Process first = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(2, kPatience)) << first.Output();
  ::kill(first.pid, SIGINT);
  ASSERT_EQ(first.Wait(kPatience), kExitDrained) << first.Output();
  run.SetRanks(2, 4);
  ExpectSerialWeights(run);
}

constexpr char kShared[] = "[sequence_parallel]\ngenerator = 2\nfake_score = 2\n";

// Two ranks share the tokens of a micro-batch: as many micro-batches at once as there are pairs, with the same weights.
TEST(Groups, ThatShareTokensEndInTheSameWeightsForAnyNumberOfPairs) {
  GroupRun one(3, 2, 2, kShared), two(3, 4, 4, kShared), alone(3, 1, 1);
  for (GroupRun* run : {&one, &two, &alone}) {
    const Process up =
        run->Launch({"up", run->topology(), StrCat("--set=generator.keep_blocks=", run == &one ? 0 : 1)});
    ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  }
  EXPECT_EQ(TinyRun::NewestState(one.run()), TinyRun::NewestState(two.run()));
  EXPECT_NE(TinyRun::NewestState(one.run()), TinyRun::NewestState(alone.run()));
}

class RankDies : public testing::TestWithParam<const char*> {};

TEST_P(RankDies, AndTheRunComesBackByItself) {
  GroupRun run(12, 2, 2);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  std::vector<pid_t> pids = run.Pids(GetParam());
  ASSERT_FALSE(pids.empty());
  ::kill(pids.front(), SIGKILL);
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("ended by signal 9 (Killed); the run goes on from the checkpoint of step"));
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

INSTANTIATE_TEST_SUITE_P(Kill, RankDies, testing::Values("generator/1", "fake_score/1", "sgmd-generator"),
                         [](const auto& info) {
                           return std::regex_replace(std::string(info.param), std::regex("[^a-z]"), "_");
                         });

TEST(Groups, RanksFindTheirNumbersInTheirEnvironment) {
  GroupRun run(100000, 1, 2);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(4, kPatience)) << up.Output();
  std::string of_rank = ReadFile(StrCat("/proc/", run.Pids("fake_score/1").at(0), "/environ"));
  std::ranges::replace(of_rank, '\0', '\n');
  for (const char* variable : {"\nRANK=1\n", "\nLOCAL_RANK=1\n", "\nWORLD_SIZE=2\n", "\nMASTER_ADDR=127.0.0.1\n"})
    EXPECT_THAT("\n" + of_rank, HasSubstr(variable));
  const Process status = run.Launch({"status", run.topology()});
  ASSERT_EQ(status.Wait(kPatience), 0) << status.Output();
  EXPECT_THAT(status.Output(), HasSubstr("fake_score/1"));
  EXPECT_TRUE(std::filesystem::exists(run.run() / "logs" / "fake_score-1.log"));
  const Process logs = run.Launch({"logs", run.topology(), "fake_score/1"});
  EXPECT_EQ(logs.Wait(kPatience), 0) << logs.Output();
  EXPECT_THAT(logs.Output(), HasSubstr("ready on cpu"));
}

// The others stand still in a collective, which is waiting; who is at work or silent is the one to end.
TEST(Groups, ARankThatStandsStillIsNamedAndTheRunComesBack) {
  GroupRun run(12, 2, 2, "", "[transport]\nsilence_seconds = 3\n");
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(4, kPatience)) << up.Output();
  const std::vector<pid_t> pids = run.Pids("fake_score/1");
  ASSERT_EQ(pids.size(), 1U);
  ::kill(pids.front(), SIGSTOP);
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_THAT(up.Output(), HasSubstr("fake_score/1 gave no sign of life for"));
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(Groups, AreExportedAsOneProcessIs) {
  for (const char* experiment : {"", "[lora]\nrank = 2\n"}) {
    GroupRun group(4, 4, 1, experiment), alone(4, 1, 1, experiment);
    std::vector<std::string> bytes;
    for (GroupRun* run : {&group, &alone}) {
      ASSERT_EQ(run->Launch({"up", run->topology()}).Wait(kPatience), kExitFinished);
      std::filesystem::remove_all(run->run() / "student");  // so that the checkpoint is what is read
      const std::filesystem::path out = run->folder() / "out" / "student.safetensors";
      const Process exported =
          run->Start({SGMD_BIN_DIR "/sgmd-export", run->run(), "--original", out, "--dtype", "float32"});
      ASSERT_EQ(exported.Wait(kPatience), 0) << exported.Output();
      bytes.push_back(DigestFile(out).Hex());
    }
    EXPECT_EQ(bytes[0], bytes[1]);
  }
}

// What they say at their end, against the plan: its formula leaves out the student's files and what fills up grains.
TEST(Groups, ReceiveWhatThePlanSays) {
  constexpr std::int64_t kSteps = 12;
  for (const auto& [experiment, kept] : {std::pair("", 2), {kShared, 1}, {"", 0}}) {
    GroupRun run(kSteps, 2, 2, StrCat(experiment, "[schedule]\nexit_weights = [0, 0, 0, 1]\n"),
                 "[teacher]\nranks = 2\n");
    WriteTinyModel(run.folder() / "model", 1, 384);
    const Process up = run.Launch({"up", run.topology(), StrCat("--set=generator.keep_blocks=", kept),
                                   StrCat("--set=fake_score.keep_blocks=", kept)});
    ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
    LaunchPlan plan = LoadRun(run.run());
    const RoleConfigs config(plan.experiment);
    DecideWhatIsKept(plan, config, MachineMemory());
    const auto ratio = [&](Role role, const char* log) {
      const std::string said = ReadFile(run.run() / "logs" / log);
      std::smatch megabytes;
      EXPECT_TRUE(std::regex_search(said, megabytes, std::regex("received ([0-9.e+]+) MB"))) << said;
      return std::stod(megabytes[1]) * 1e6 / (kSteps * GroupTraffic(plan, config, role));
    };
    EXPECT_NEAR(ratio(Role::kGenerator, "generator-1.log"), 1, 0.15) << experiment;
    EXPECT_NEAR(ratio(Role::kFakeScore, "fake_score-1.log"), 1, 0.15) << experiment;
    EXPECT_GT(ratio(Role::kTeacher, "teacher.0-1.log"), 0.85) << "more where micro-batches come one by one";
  }
}

TEST(Groups, AreReplayedWithoutTeachers) {
  GroupRun run(4, 2, 2);
  ExpectSerialWeights(run);
  const Process replay = run.Launch({"replay", run.topology()});
  ASSERT_EQ(replay.Wait(kPatience), kExitFinished) << replay.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run().string() + "-replay"), TinyRun::NewestState(run.run()));
}

TEST(Groups, ThatCannotShareAreRefusedWhereTheySaySo) {
  const std::string kFree = "[inner]\npace = \"free\"\nsource = \"replay\"\n";
  const auto refusal = [](int generator, int fake_score, const std::string& experiment) {
    GroupRun run(4, generator, fake_score, experiment);
    const Process up = run.Launch({"up", run.topology()});
    EXPECT_EQ(up.Wait(kPatience), kExitRefused);
    return up.Output();
  };
  EXPECT_THAT(refusal(3, 1, ""),
              testing::ContainsRegex("topology.toml:[0-9]+:[0-9]+: .*3 ranks cannot share 4 micro-batches"));
  EXPECT_THAT(refusal(4, 1, kFree + "[outer]\nland = 2\nmax_staleness = 1\n"),
              HasSubstr("4 ranks cannot share 2 micro-batches"));
  EXPECT_THAT(refusal(1, 2, kFree), HasSubstr("which ranks cannot share"));
  EXPECT_THAT(refusal(1, 2, kShared), HasSubstr("1 device is no multiple of [sequence_parallel] generator = 2"));
  EXPECT_THAT(refusal(3, 1, "[sequence_parallel]\ngenerator = 3\n"),
              testing::ContainsRegex("experiment.toml:[0-9]+:[0-9]+: .*3 ranks cannot share the 2 heads"));
}

}  // namespace
}  // namespace sgmd
