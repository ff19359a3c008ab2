// A role that several processes share gives the weights of the serial loop, bit for bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>

#include <regex>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
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
    testing::Values(Case{"TwoAndOne", 2, 1}, Case{"OneAndTwo", 1, 2}, Case{"TwoAndTwo", 2, 2, "", "[teacher]\nreplicas = 2\n"},
                    Case{"FourAndTwo", 4, 2}, Case{"AnyExit", 2, 2, kAnyExit},
                    Case{"Adapters", 2, 2, "[lora]\nrank = 2\n"},
                    Case{"Bfloat16", 2, 2, "[precision]\ncompute = \"bfloat16\"\n"},
                    Case{"Bfloat16Adapters", 2, 2, "[precision]\ncompute = \"bfloat16\"\n[lora]\nrank = 2\n"},
                    Case{"Diversity", 2, 2, "[diversity]\nweight = 0.5\nnoise_bank = 16\n"},
                    Case{"Paired", 2, 2, "[inner]\nsource = \"paired\"\n"},
                    Case{"Fresh", 2, 2, "[inner]\nsource = \"fresh\"\nupdates = 2\n[schedule]\nexit_weights = [1, 1, 1, 1]\n"},
                    Case{"Replay", 2, 2, "[inner]\nsource = \"replay\"\nupdates = 2\nmax_age = 2\n"},
                    Case{"Reuse", 2, 2, "[outer]\nreuse = 2\n"},
                    Case{"Alignment", 2, 2, "[objective]\nalignment = 0.25\n"}),
    [](const auto& info) { return info.param.name; });

TEST(Groups, ThatRunExitStepsAgainMatchTheSerialLoop) {
  for (const char* kept : {"generator.keep_exit_graphs=0", "generator.keep_exit_graphs=3"}) {
    GroupRun run(4, 2, 1, kAnyExit);
    ExpectSerialWeights(run, {"--set", kept});
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

INSTANTIATE_TEST_SUITE_P(Kill, RankDies,
                         testing::Values("generator/1", "fake_score/1", "sgmd-generator"),
                         [](const auto& info) {
                           return std::regex_replace(std::string(info.param), std::regex("[^a-z]"), "_");
                         });

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
  EXPECT_THAT(refusal(3, 1, ""), testing::ContainsRegex("topology.toml:[0-9]+:[0-9]+: .*3 ranks cannot share 4 micro-batches"));
  EXPECT_THAT(refusal(4, 1, kFree + "[outer]\nland = 2\nmax_staleness = 1\n"), HasSubstr("4 ranks cannot share 2 micro-batches"));
  EXPECT_THAT(refusal(1, 2, kFree), HasSubstr("which ranks cannot share"));
}

}  // namespace
}  // namespace sgmd
