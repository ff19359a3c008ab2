// Image-to-video: strict to the last bit over topologies and replayed; and banks that are not the model's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "common/error/error.h"
#include "common/storage/sharded_safetensors.h"
#include "launch/run/exit_codes.h"
#include "pipeline/models/wan_transformer.h"
#include "tests/support/image_run.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

constexpr double kPatience = 120;
constexpr auto kBeside = FirstFrameForm::kBeside, kWithClip = FirstFrameForm::kWithClip, kHeld = FirstFrameForm::kHeld;

struct Case {
  const char* name;
  FirstFrameForm form = kBeside;
  const char* experiment = "";
  const char* topology = "";
  int micro_batches = 3;
  bool experts = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class ImageToVideo : public testing::TestWithParam<Case> {};

TEST_P(ImageToVideo, MatchesTheSerialLoopAndItsReplay) {
  const Case& c = GetParam();
  ImageRun run(6, c.form, c.experiment, c.topology, c.micro_batches, c.experts);
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
const char* const kAdapters = "[lora]\nrank = 2\n";

INSTANTIATE_TEST_SUITE_P(
    With, ImageToVideo,
    testing::Values(Case{"AFirstFrame"}, Case{"ClipTokens", kWithClip}, Case{"Adapters", kWithClip, kAdapters},
                    Case{"GroupsOfRanks", kWithClip, "", kTwoRanks, 4},
                    Case{"AdaptersInGroups", kWithClip, kAdapters, kTwoRanks, 4},
                    Case{"TwoExperts", kBeside, "", "", 3, true},
                    Case{"TwoExpertsInGroups", kBeside, "", kTwoRanks, 4, true},
                    Case{"AnchorsOfTheTeacher", kBeside, "[diversity]\nweight = 0.5\nnoise_bank = 16\n"},
                    Case{"HeldFirstFrame", kHeld}, Case{"HeldFirstFrameInGroups", kHeld, "", kTwoRanks, 4}),
    [](const auto& info) { return info.param.name; });

TEST(StudentOfImageToVideo, TakesWhatItsTeacherTakes) {
  ImageRun run(2, kWithClip, kAdapters);
  ASSERT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), kExitFinished);
  const WanConfig config = WanTransformer::Load(run.run() / "student", at::kCPU).config();
  EXPECT_EQ(config.in_dim, 10);
  EXPECT_EQ(config.image_dim, kTinyClipWidth);
  const auto before = ShardedSafetensors::Open(run.folder() / "model" / "diffusion_pytorch_model.safetensors"),
             after = ShardedSafetensors::Open(run.run() / "student");
  const auto same = [&](const char* name) { return std::ranges::equal(before.At(name).bytes, after.At(name).bytes); };
  EXPECT_FALSE(same("blocks.0.cross_attn.q.weight"));
  EXPECT_TRUE(same("blocks.0.cross_attn.k_img.weight")) << "adapters are not on the Linears of CLIP tokens";
}

// What the launcher says of a run before it starts anything.
std::string Refusal(TinyRun& run) {
  const Process up = run.Launch({"up", run.topology(), "--quiet"});
  EXPECT_EQ(up.Wait(kPatience), kExitRefused);
  EXPECT_THAT(up.Output(), HasSubstr("experiment.toml:6:11: "));
  EXPECT_FALSE(std::filesystem::exists(run.run()));
  return up.Output();
}

TEST(BankOfAnotherTask, IsRefusedInWords) {
  ImageRun without(2, kBeside);
  WriteWordPromptBank(without.bank(), {"a ball"}, "", 8);
  EXPECT_THAT(Refusal(without), HasSubstr("the prompt bank has no first frames, and the model makes videos of one"));

  TinyRun with(2);
  AddFirstFrames(with.folder() / "model/prompt_bank.safetensors", {{3, 4, 4, 4}, 0});
  EXPECT_THAT(Refusal(with), HasSubstr("has first frames, and the model makes videos of a text alone"));

  ImageRun smaller(2, kBeside);
  WriteWordPromptBank(smaller.bank(), {"a ball"}, "", 8);
  AddFirstFrames(smaller.bank(), {{3, 2, 4, 4}, 0});
  EXPECT_THAT(Refusal(smaller), HasSubstr("are latents of [3, 2, 4, 4], the model takes [3, 4, 4, 4]"));

  ImageRun no_clip(2, kWithClip);
  WriteWordPromptBank(no_clip.bank(), {"a ball"}, "", 8);
  AddFirstFrames(no_clip.bank(), {{3, 4, 4, 4}, 0});
  EXPECT_THAT(Refusal(no_clip),
              HasSubstr("has no CLIP tokens of its first frames, the model takes CLIP tokens of width 16"));
}

// The bank decides what a model is distilled for that makes videos either way.
TEST(ModelThatMayHoldAFirstFrame, IsDistilledForTextWithABankOfTexts) {
  ImageRun run(3, kHeld);
  WriteWordPromptBank(run.bank(), {"a ball", "a cat"}, "", 8);
  ASSERT_EQ(run.Launch({"up", run.topology()}).Wait(kPatience), kExitFinished);
  EXPECT_EQ(TinyRun::NewestState(run.run()), run.SerialState());
}

TEST(BankOfAHeldFirstFrame, HasOneFrame) {
  ImageRun run(2, kHeld);
  WriteWordPromptBank(run.bank(), {"a ball"}, "", 8);
  AddFirstFrames(run.bank(), {{4, 4, 4, 4}, 0});
  EXPECT_THAT(Refusal(run), HasSubstr("are latents of [4, 4, 4, 4], the model takes [4, 1, 4, 4]"));
}

TEST(StudentForText, DoesNotGoWithATeacherForImages) {
  ImageRun run(2, kBeside);
  WriteTinyModel(run.folder() / "text", 3);
  const std::string student = StrCat("model.student=\"", (run.folder() / "text").string(), "\"");
  const Process up = run.Launch({"up", run.topology(), "--set", student});
  EXPECT_EQ(up.Wait(kPatience), kExitRefused);
  EXPECT_THAT(up.Output(), HasSubstr("it takes no first frame, and the teacher a first frame with no CLIP tokens"));
}

}  // namespace
}  // namespace sgmd
