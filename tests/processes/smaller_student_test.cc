// A student of another size than the teacher: strict to the last bit, killed and replayed, exported at its own size.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/sharded_safetensors.h"
#include "launch/run/exit_codes.h"
#include "pipeline/models/role_configs.h"
#include "pipeline/models/wan_transformer.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

constexpr double kPatience = 120;

// A tiny run whose teacher is twice as wide as the model in the folder small/. `models`: further lines of [model].
class SmallerStudentRun : public TinyRun {
 public:
  SmallerStudentRun(std::int64_t steps, const std::string& models, const std::string& experiment = "",
                    const std::string& topology = "", int micro_batches = 3)
      : TinyRun(steps, experiment, topology) {
    WriteTinyModel(folder() / "model", 1, 48);
    WriteTinyModel(folder() / "small", 3, 24);
    std::string text = ReadFile(folder() / "experiment.toml");
    text.insert(text.find("guidance = 2\n"), models);
    const std::string batches = "micro_batches = ";
    text.replace(text.find(batches) + batches.size(), 1, std::to_string(micro_batches));
    WriteFileAtomically(folder() / "experiment.toml", text);
  }
};

const std::string kStudent = "student = \"small\"\n", kBoth = kStudent + "fake_score = \"small\"\n";

struct Case {
  const char* name;
  std::string models;
  const char* experiment = "";
  const char* topology = "";
  int micro_batches = 3;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class SmallerStudent : public testing::TestWithParam<Case> {};

TEST_P(SmallerStudent, MatchesTheSerialLoopAndItsReplay) {
  const Case& c = GetParam();
  SmallerStudentRun run(6, c.models, c.experiment, c.topology, c.micro_batches);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
  const Process replay = run.Launch({"replay", run.topology()});
  ASSERT_EQ(replay.Wait(kPatience), kExitFinished) << replay.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run().string() + "-replay"), TinyRun::NewestState(run.run()));
}

const char* const kTwoRanks =
    "[generator]\ndevices = [\"cpu\", \"cpu\"]\n[fake_score]\ndevices = [\"cpu\", \"cpu\"]\n"
    "[teacher]\nranks = 2\n";

INSTANTIATE_TEST_SUITE_P(
    With, SmallerStudent,
    testing::Values(Case{"TheFakeScoreOfTheTeachersSize", kStudent}, Case{"AFakeScoreOfItsOwnSize", kBoth},
                    Case{"Adapters", kBoth, "[lora]\nrank = 2\n"}, Case{"GroupsOfRanks", kBoth, "", kTwoRanks, 4},
                    Case{"PairedSamples", kBoth, "[inner]\nsource = \"paired\"\n"},
                    Case{"AnchorsOfTheTeacher", kBoth, "[diversity]\nweight = 0.5\nnoise_bank = 16\n"},
                    Case{"Alignment", kBoth, "[objective]\nname = \"dmd2\"\nalignment = 0.03\n"}),
    [](const auto& info) { return info.param.name; });

class RoleOfASmallerStudentDies : public testing::TestWithParam<const char*> {};

TEST_P(RoleOfASmallerStudentDies, AndTheRunGoesOnToTheSameWeights) {
  SmallerStudentRun run(60, kBoth);
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_TRUE(run.WaitForCheckpoint(5, kPatience)) << up.Output();
  ASSERT_TRUE(run.Kill(GetParam())) << up.Output();
  ASSERT_EQ(up.Wait(kPatience), kExitFinished) << up.Output();
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

INSTANTIATE_TEST_SUITE_P(Kill, RoleOfASmallerStudentDies,
                         testing::Values("sgmd-generator", "sgmd-fake-score", "sgmd-teacher"),
                         [](const auto& info) { return std::regex_replace(info.param, std::regex("-"), "_"); });

class ExportOfASmallerStudent : public testing::TestWithParam<const char*> {};

// Adapters belong to the student's model, not to the teacher's.
TEST_P(ExportOfASmallerStudent, HasItsOwnSize) {
  SmallerStudentRun run(2, kBoth, GetParam());
  ASSERT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), kExitFinished);
  const std::filesystem::path out = run.folder() / "out/student.safetensors";
  const Process exported = run.Start({SGMD_BIN_DIR "/sgmd-export", run.run(), "--original", out});
  ASSERT_EQ(exported.Wait(kPatience), 0) << exported.Output();
  const auto student = ShardedSafetensors::Open(run.run() / "student"), written = ShardedSafetensors::Open(out);
  ASSERT_EQ(student.tensors().size(), written.tensors().size());
  for (const TensorView& view : student.tensors()) EXPECT_EQ(written.At(view.name).shape, view.shape) << view.name;
  EXPECT_EQ(WanTransformer::Load(run.run() / "student", at::kCPU).config().dim, 24);
  const std::string card = ReadFile(out.parent_path() / "README.md");
  EXPECT_THAT(card, HasSubstr("| teacher | model |"));
  EXPECT_THAT(card, HasSubstr("| started from | small |"));
}

INSTANTIATE_TEST_SUITE_P(Of, ExportOfASmallerStudent, testing::Values("", "[lora]\nrank = 4\n"),
                         [](const auto& info) { return info.index == 0 ? "Parameters" : "Adapters"; });

TEST(SmallerStudentCost, IsCountedInPassesOfTheTeacher) {
  SmallerStudentRun small(4, kBoth), alike(4, "");
  const auto generator = [](SmallerStudentRun& run) {
    EXPECT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), kExitFinished);
    const std::string log = ReadFile(RunFolder{run.run()}.Logs() / "broker.log");
    std::smatch found;
    EXPECT_TRUE(std::regex_search(log, found, std::regex("forward-equivalents: generator ([0-9.]+)")));
    return std::stod(found[1]);
  };
  const double cost = ForwardCost(small.experiment(), Role::kGenerator);
  EXPECT_LT(cost, 0.6);
  EXPECT_NEAR(generator(small) / generator(alike), cost, 1e-4);
}

class StudentThatDoesNotFit : public testing::Test {
 protected:
  std::string Refused(SmallerStudentRun& run, const char* key, std::int64_t value) {
    std::string config = ReadFile(run.folder() / "small/config.json");
    config = std::regex_replace(config, std::regex(StrCat("\"", key, "\": [0-9]+")), StrCat("\"", key, "\": ", value));
    WriteFileAtomically(run.folder() / "small/config.json", config);
    const Process up = run.Launch({"up", run.topology()});
    EXPECT_EQ(up.Wait(kPatience), kExitRefused);
    return up.Output();
  }
};

TEST_F(StudentThatDoesNotFit, IsRefusedWithPlaceAndReason) {
  SmallerStudentRun text(2, kBoth), latents(2, "fake_score = \"small\"\n");
  const std::string of_text = Refused(text, "text_dim", 16);
  EXPECT_THAT(of_text, HasSubstr("experiment.toml:7:"));
  EXPECT_THAT(of_text, HasSubstr("it reads prompts of 8 x 16 and the teacher of 8 x 8"));
  Refused(latents, "out_dim", 6);
  EXPECT_THAT(Refused(latents, "in_dim", 6), HasSubstr("it has latents of 6 channels and the teacher of 3"));
}

TEST_F(StudentThatDoesNotFit, CannotBeAveragedIntoAFakeScoreOfAnotherSize) {
  SmallerStudentRun run(2, kStudent, "[objective]\nname = \"dmd2\"\nalignment = 0.03\n");
  const Process up = run.Launch({"up", run.topology()});
  EXPECT_EQ(up.Wait(kPatience), kExitRefused);
  EXPECT_THAT(up.Output(), HasSubstr("student and fake score have other sizes"));
}

}  // namespace
}  // namespace sgmd
