// First frames of image-to-video: in a prompt bank, in what a model is told, in scores; and pictures.
#include "pipeline/flow/first_frame.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "pipeline/data/prompt_bank.h"
#include "pipeline/evaluation/video_file.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/image/picture.h"
#include "pipeline/training/teacher.h"
#include "tests/support/error_of.h"
#include "tests/support/image_run.h"
#include "tests/support/tiny_model.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

TEST(FirstFrame, IsMarkedInFourChannelsBeforeItsLatents) {
  const at::Tensor latents = Noise({2, 3, 4, 5}, 1), condition = FirstFrameCondition(latents);
  ASSERT_EQ(condition.sizes(), (std::vector<std::int64_t>{6, 3, 4, 5}));
  EXPECT_TRUE(condition.slice(0, 0, 4).select(1, 0).eq(1).all().item<bool>());
  EXPECT_TRUE(condition.slice(0, 0, 4).slice(1, 1).eq(0).all().item<bool>());
  EXPECT_TRUE(at::equal(condition.slice(0, 4), latents));
}

class BankOfFirstFrames : public testing::Test {
 protected:
  BankOfFirstFrames() {
    WriteWordPromptBank(path_, {"a ball", "a cat"}, "bad", 6);
    AddFirstFrames(path_, {{2, 2, 4, 4}, 10});
  }
  TempFolder folder_;
  std::filesystem::path path_ = folder_ / "bank.safetensors";
};

TEST_F(BankOfFirstFrames, HasEntriesOfTextsAndFrames) {
  const PromptBank bank = PromptBank::Open(path_);
  ASSERT_EQ(bank.texts(), (std::vector<std::string>{"a ball", "a cat", "a cat", "a ball"}));
  EXPECT_EQ(std::set<Digest>(bank.prompts().begin(), bank.prompts().end()).size(), 4U)
      << "each has a digest of its own";
  const Conditioning all = bank.ConditionsOf(bank.prompts(), 4);
  EXPECT_TRUE(at::equal(all.text[0], all.text[3]));
  EXPECT_FALSE(at::equal(all.text[0], all.text[1]));
  EXPECT_TRUE(at::equal(all.image[0], all.image[1]));
  EXPECT_FALSE(at::equal(all.image[0], all.image[3]));
  EXPECT_EQ(all.image.sizes(), (std::vector<std::int64_t>{4, 6, 2, 4, 4}));
  EXPECT_EQ(all.clip.sizes(), (std::vector<std::int64_t>{4, kTinyClipTokens, 10}));
  EXPECT_TRUE(at::equal(bank.Gather(bank.prompts(), 4), all.text));
  EXPECT_EQ(bank.GatherNegative(2, 4).size(0), 2);
  EXPECT_THAT(ErrorOf([&] { bank.ConditionsOf({bank.negative()}, 4); }), HasSubstr("has no first frame in the bank"));
}

TEST_F(BankOfFirstFrames, IsWhatTheModelAsksForOrRefused) {
  const PromptBank bank = PromptBank::Open(path_);
  bank.RequireFirstFrames({{2, 2, 4, 4}, 10});
  EXPECT_THAT(ErrorOf([&] { bank.RequireFirstFrames({}); }), HasSubstr("a text alone"));
  EXPECT_THAT(ErrorOf([&] {
                bank.RequireFirstFrames({{2, 2, 4, 6}, 10});
              }),
              HasSubstr("are for latents of [2, 2, 4, 4], the videos have [2, 2, 4, 6]"));
  EXPECT_THAT(ErrorOf([&] {
                bank.RequireFirstFrames({{2, 2, 4, 4}, 0});
              }),
              HasSubstr("CLIP tokens of width 10 of its first frames, the model takes no CLIP tokens"));
}

TEST(EntryOfABank, IsTheTextThePictureAndWhatMadeItsCondition) {
  const Digest entry = EntryDigest("a ball", "p", "vae 1");
  EXPECT_EQ(entry, EntryDigest("a ball", "p", "vae 1"));
  EXPECT_NE(entry, EntryDigest("a cat", "p", "vae 1"));
  EXPECT_NE(entry, EntryDigest("a ball", "q", "vae 1"));
  EXPECT_NE(entry, EntryDigest("a ball", "p", "vae 2"));
  EXPECT_NE(entry, DigestText("a ball"));
}

TEST(FirstFrame, GoesIntoBothHalvesOfGuidance) {
  const WanTransformer model = RandomModel(TinyImageConfig(2, 10));
  const TinyInputs in;
  const Conditioning condition{in.context, Noise({2, 6, 2, 4, 4}, 9), Noise({2, 5, 10}, 10)}, negative{-in.context};
  const at::Tensor c = model.Forward(in.x, in.sigma, condition),
                   u = model.Forward(in.x, in.sigma, {-in.context, condition.image, condition.clip});
  EXPECT_TRUE(at::allclose(GuidedVelocity(model, in.x, in.sigma, condition, negative, 3), u + 3 * (c - u), 1e-4, 1e-5));
  for (const Conditioning& other : {Conditioning{in.context, -condition.image, condition.clip},
                                    Conditioning{in.context, condition.image, -condition.clip}})
    EXPECT_FALSE(at::allclose(model.Forward(in.x, in.sigma, other), c, 1e-3, 1e-3)) << "it is looked at";
  EXPECT_THROW(model.Forward(in.x, in.sigma, {in.context}), c10::Error);
  EXPECT_THROW(model.Forward(in.x, in.sigma, {in.context, condition.image}), c10::Error);
}

// Of one text with two frames.
TEST(FirstFrame, DecidesTheTeachersScore) {
  const ImageRun run(2, /*clip=*/true);
  const Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  std::vector<Digest> entries;
  for (std::size_t i = 0; i < bank.texts().size(); ++i) {
    if (bank.texts()[i] == bank.texts().front()) entries.push_back(bank.prompts()[i]);
  }
  ASSERT_EQ(entries.size(), 2U);
  ASSERT_NE(entries[0], entries[1]);
  Teacher teacher(e, at::kCPU);
  const at::Tensor x = Noise({1, 3, 4, 4, 4}, 1), sigma = at::full({1}, 0.5);
  const at::Tensor one = teacher.Score(x, sigma, {entries[0]}), other = teacher.Score(x, sigma, {entries[1]});
  EXPECT_FALSE(at::allclose(one, other, 1e-3, 1e-3));
  EXPECT_TRUE(at::equal(one, teacher.Score(x, sigma, {entries[0]})));
}

TEST(Picture, OfAFileIsReadAndResized) {
  const TempFolder folder;
  const at::Tensor picture = at::randint(0, 256, {12, 20, 3}, at::kByte);
  WritePng(folder / "a.png", picture);
  EXPECT_TRUE(at::equal(ReadPicture(folder / "a.png"), picture));
  for (const Resampling how : {Resampling::kBicubic, Resampling::kLanczos}) {
    EXPECT_TRUE(at::equal(ResizePicture(picture, 12, 20, how), picture)) << "of its own size it stays as it is";
    const at::Tensor grey = at::full({12, 20, 3}, 77, at::kByte);
    EXPECT_TRUE(ResizePicture(grey, 31, 7, how).eq(77).all().item<bool>());
  }
  EXPECT_EQ(MiddleSquare(picture, 6, Resampling::kBicubic).sizes(), (std::vector<std::int64_t>{6, 6, 3}));
  WriteFileAtomically(folder / "b.png", "no picture");
  EXPECT_THAT(ErrorOf([&] { ReadPicture(folder / "b.png"); }), HasSubstr("b.png"));
}

}  // namespace
}  // namespace sgmd
