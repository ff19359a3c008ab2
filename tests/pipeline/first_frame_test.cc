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
#include "pipeline/models/bank_fit.h"
#include "pipeline/training/teacher.h"
#include "tests/support/error_of.h"
#include "tests/support/image_run.h"
#include "tests/support/tiny_model.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

TEST(FirstFrame, IsMarkedInFourChannelsBeforeItsLatents) {
  const at::Tensor latents = Noise({3, 2, 3, 4, 5}, 1), condition = FirstFrameCondition(latents);
  ASSERT_EQ(condition.sizes(), (std::vector<std::int64_t>{3, 6, 3, 4, 5}));
  EXPECT_TRUE(condition.slice(1, 0, 4).select(2, 0).eq(1).all().item<bool>());
  EXPECT_TRUE(condition.slice(1, 0, 4).slice(2, 1).eq(0).all().item<bool>());
  EXPECT_TRUE(at::equal(condition.slice(1, 4), latents));
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
  EXPECT_EQ(all.image.sizes(), (std::vector<std::int64_t>{4, 2, 2, 4, 4}));
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
              HasSubstr("are latents of [2, 2, 4, 4], the model takes [2, 2, 4, 6]"));
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
  const Conditioning condition{in.context, Noise({2, 2, 2, 4, 4}, 9), Noise({2, 5, 10}, 10)}, negative{-in.context};
  const at::Tensor c = model.Forward(in.x, in.sigma, condition),
                   u = model.Forward(in.x, in.sigma, {-in.context, condition.image, condition.clip});
  EXPECT_TRUE(at::allclose(GuidedVelocity(model, in.x, in.sigma, condition, negative, 3), u + 3 * (c - u), 1e-4, 1e-5));
  for (const Conditioning& other : {Conditioning{in.context, -condition.image, condition.clip},
                                    Conditioning{in.context, condition.image, -condition.clip}})
    EXPECT_FALSE(at::allclose(model.Forward(in.x, in.sigma, other), c, 1e-3, 1e-3)) << "it is looked at";
  EXPECT_THROW(model.Forward(in.x, in.sigma, {in.context}), c10::Error);
  EXPECT_THROW(model.Forward(in.x, in.sigma, {in.context, condition.image}), c10::Error);
}

class HeldFirstFrame : public testing::Test {
 protected:
  HeldFirstFrame() : model_(RandomModel(HoldingConfig())) {}
  static WanConfig HoldingConfig() {
    WanConfig config = TinyWanConfig(2);
    config.model_type = "ti2v";
    return config;
  }
  at::Tensor Velocity(const at::Tensor& x) const { return model_.Forward(x, in_.sigma, {in_.context, image_}); }

  WanTransformer model_;
  TinyInputs in_;
  at::Tensor image_ = Noise({2, 2, 1, 4, 4}, 9);
};

TEST_F(HeldFirstFrame, IsWhatEveryPredictionBeginsWith) {
  const at::Tensor clean = in_.x - in_.sigma.view({2, 1, 1, 1, 1}) * Velocity(in_.x);
  EXPECT_TRUE(at::allclose(clean.slice(2, 0, 1), image_, 1e-5, 1e-5));
}

TEST_F(HeldFirstFrame, DecidesTheOthersAndItsNoiseDoesNot) {
  const at::Tensor v = Velocity(in_.x).slice(2, 1);
  const at::Tensor other = at::cat({in_.x.slice(2, 0, 1) + 1, in_.x.slice(2, 1)}, 2);
  EXPECT_TRUE(at::equal(Velocity(other).slice(2, 1), v));
  image_ = -image_;
  EXPECT_FALSE(at::allclose(Velocity(in_.x).slice(2, 1), v, 1e-3, 1e-3));
  EXPECT_FALSE(at::allclose(model_.Forward(in_.x, in_.sigma, {in_.context}).slice(2, 1), v, 1e-3, 1e-3))
      << "without a picture it makes a video of the text";
}

TEST_F(HeldFirstFrame, GivesAPredictionNoGradient) {
  const at::Tensor x = in_.x.clone().requires_grad_(true);
  model_.SetRequiresGrad(true);
  (x - in_.sigma.view({2, 1, 1, 1, 1}) * Velocity(x)).slice(2, 0, 1).sum().backward();
  EXPECT_LE(x.grad().abs().max().item<double>(), 1e-5);
  for (const auto& [name, p] : model_.parameters())
    EXPECT_TRUE(!p.grad().defined() || p.grad().eq(0).all().item<bool>()) << name;
}

TEST_F(BankOfFirstFrames, OfAHeldOneIsForVideosOfSeveralFrames) {
  WriteWordPromptBank(path_, {"a ball"}, "bad", 6);
  AddFirstFrames(path_, {{2, 1, 4, 4}, 0});
  const PromptBank bank = PromptBank::Open(path_);
  WanConfig config = TinyWanConfig(1);
  config.model_type = "ti2v";
  RequireFits(bank, config, {2, 2, 4, 4});
  EXPECT_THAT(ErrorOf([&] {
                RequireFits(bank, config, {2, 1, 4, 4});
              }),
              HasSubstr("cannot stand in videos of 1 latent frames"));
  config.model_type = "t2v";
  EXPECT_THAT(ErrorOf([&] { RequireFits(bank, config, {2, 2, 4, 4}); }), HasSubstr("a text alone"));
}

TEST_F(HeldFirstFrame, IsOneFrameOfAVideoOfSeveral) {
  image_ = Noise({2, 2, 2, 4, 4}, 9);
  EXPECT_THROW(Velocity(in_.x), c10::Error);
}

// Of one text with two frames.
TEST(FirstFrame, DecidesTheTeachersScore) {
  const ImageRun run(2, FirstFrameForm::kWithClip);
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
