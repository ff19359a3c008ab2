#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "nodes/sampler/output.h"
#include "nodes/sampler/sampler.h"
#include "nodes/sampler/text.h"
#include "nodes/sampler/trajectories.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/evaluation/video_file.h"
#include "pipeline/evaluation/video_reader.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/vae/video_size.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"
#include "tests/support/tiny_vae.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

WanConfig ConfigOf(std::int64_t channels) {
  WanConfig config;
  config.in_dim = config.out_dim = channels;
  return config;
}

TEST(LatentShape, IsThePublishedOneByDefault) {
  EXPECT_THAT(LatentShape(ConfigOf(16), {}), ElementsAre(16, 21, 60, 104));
  EXPECT_THAT(LatentShape(ConfigOf(48), {}), ElementsAre(48, 31, 44, 80));
  EXPECT_THAT(LatentShape(ConfigOf(16), {.frames = 1, .height = 720, .width = 1280}), ElementsAre(16, 1, 90, 160));
}

// The 5B model cannot run at height 720: its cells are 16 pixels and its patches two cells.
TEST(LatentShape, NamesTheNearestSizeThatFits) {
  EXPECT_THAT(ErrorOf([] { LatentShape(ConfigOf(48), {.frames = {}, .height = 720, .width = 1280}); }),
              HasSubstr("the nearest size that does: 121 frames of 736x1280; height and width are multiples of 32"));
  EXPECT_THAT(ErrorOf([] { LatentShape(ConfigOf(16), {.frames = 80, .height = 3, .width = 832}); }),
              HasSubstr("81 frames of 16x832"));
}

TEST(ModelParts, FindsThePartsOfAPipeline) {
  TempFolder root;
  for (const char* part : {"vae", "text_encoder", "tokenizer", "scheduler"})
    std::filesystem::create_directory(root / part);
  WriteTinyModel(root / "transformer");
  WriteFileAtomically(root / "scheduler/scheduler_config.json", R"({"flow_shift": 3.0})");
  const ModelParts parts = ModelParts::Inspect(root.path());
  ASSERT_EQ(parts.experts.size(), 1U);
  EXPECT_EQ(FindModel(parts.experts[0].model).config, root / "transformer/config.json");
  EXPECT_EQ(parts.vae, root / "vae");
  EXPECT_EQ(parts.text_encoder, root / "text_encoder");
  EXPECT_EQ(parts.tokenizer, root / "tokenizer");
  EXPECT_EQ(parts.shift, 3.0);
}

TEST(ModelParts, TakesAnotherBoundaryOfTwoExpertsAlone) {
  TempFolder root;
  for (const char* part : {"two/transformer", "two/transformer_2", "one"}) WriteTinyModel(root / part);
  WriteFileAtomically(root / "two/model_index.json", R"({"boundary_ratio": 0.875})");
  const ModelParts parts = ModelParts::Inspect(root / "two", 0.9);
  ASSERT_EQ(parts.experts.size(), 2U);
  EXPECT_EQ(parts.experts[0].min_sigma, 0.9);
  EXPECT_EQ(parts.experts[1].min_sigma, 0);
  EXPECT_EQ(parts.experts[1].model, root / "two/transformer_2");
  EXPECT_THAT(ErrorOf([&] { ModelParts::Inspect(root / "one", 0.9); }), HasSubstr("one transformer has no boundary"));
}

TEST(LoadText, RefusesABankThatTheModelCannotRead) {
  TempFolder folder;
  SampleOptions options;
  options.prompt_bank = folder / "bank.safetensors";
  WriteWordPromptBank(options.prompt_bank, {"a ball"}, "", 5);
  WanConfig config = ConfigOf(4);
  config.text_dim = 8;
  EXPECT_THAT(ErrorOf([&] {
                LoadText(options, {}, config, {4, 1, 2, 2}, false);
              }),
              HasSubstr("the prompt bank has text_dim 5, the model 8"));
  config.text_dim = 5;
  EXPECT_EQ(LoadText(options, {}, config, {4, 1, 2, 2}, false).condition.text.size(2), 5);
}

TEST(Integrate, GivesEachExpertItsNoiseLevels) {
  TempFolder folder;
  WriteTinyModel(folder / "high", 1);
  WriteTinyModel(folder / "low", 2);
  TrajectoryOptions how;
  how.grid = ExactGrid(StudentSigmas({1000, 750, 500, 250}, 5));  // timesteps 1000, 937.5 | 833, 625
  how.unipc = false;
  how.guidance = {2, 3};
  how.keep = true;
  const at::Tensor noise = Noise({3, 3, 4, 4, 4}, 1), context = Noise({3, 8, 8}, 2), negative = Noise({1, 8, 8}, 3);
  std::vector<std::int64_t> told;
  const auto samples =
      Integrate({{kHighNoiseExpert, folder / "high", 0.875}, {kLowNoiseExpert, folder / "low", 0}}, how, noise,
                Conditioning{context}, negative, [&](std::int64_t done, std::int64_t total) {
                  told.push_back(done);
                  EXPECT_EQ(total, 4);
                });

  const WanTransformer high = WanTransformer::Load(folder / "high", at::kCPU),
                       low = WanTransformer::Load(folder / "low", at::kCPU);
  at::Tensor x = noise;
  ASSERT_EQ(samples.size(), 5U);
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(at::equal(samples[i], x)) << i;
    const double from = how.grid.sigmas[i], to = how.grid.sigmas[i + 1];
    const at::Tensor sigma = at::full({3}, from, at::kDouble);
    x = EulerStep(x,
                  GuidedVelocity(i < 2 ? high : low, x, sigma, {context}, {negative.expand_as(context)}, i < 2 ? 2 : 3),
                  from, to);
  }
  EXPECT_TRUE(at::equal(samples[4], x));
  EXPECT_THAT(told, ElementsAre(0, 1, 2, 2, 3, 4));
}

// The program, on a Diffusers pipeline and on an original folder of the same two experts.
TEST(SampleProgram, DrawsFromAModelOfTwoExperts) {
  TempFolder folder;
  WriteTinyExperts(folder / "two");
  std::filesystem::create_directory(folder / "pipe");
  std::filesystem::copy(folder / "two" / kHighNoiseExpert, folder / "pipe/transformer");
  std::filesystem::copy(folder / "two" / kLowNoiseExpert, folder / "pipe/transformer_2");
  WriteFileAtomically(folder / "pipe/model_index.json", R"({"boundary_ratio": 0.875})");
  const std::string bank = (folder / "pipe/transformer/prompt_bank.safetensors").string();
  const auto sample = [&](const std::string& model, const std::string& more) {
    const std::string out = (folder / "out.safetensors").string(), log = (folder / "log").string();
    const int status = std::system(StrCat(SGMD_BIN_DIR "/sgmd-sample --model ", (folder / model).string(),
                                          " --prompt-bank ", bank, " --latent 3 4 4 4 --student-steps 1000 750 500 250",
                                          " --shift 5 ", more, " --out ", out, " >", log, " 2>&1")
                                       .c_str());
    EXPECT_EQ(status, 0) << ReadFile(log);
    return CopyToTensor(SafetensorsFile::Open(out).At("latents"));
  };
  const at::Tensor drawn = sample("pipe", "");
  EXPECT_TRUE(at::equal(sample("two", ""), drawn));
  EXPECT_TRUE(at::equal(sample("two", "--boundary 0.9"), drawn)) << "no step is between";
  EXPECT_FALSE(at::equal(sample("two", "--boundary 0.95"), drawn)) << "0.9375 is now the low-noise expert's";
}

TEST(SampleProgram, GivesOneTransformerOneGuidance) {
  TempFolder folder;
  WriteTinyModel(folder / "one");
  const std::string log = (folder / "log").string();
  EXPECT_NE(
      std::system(StrCat(SGMD_BIN_DIR "/sgmd-sample --model ", (folder / "one").string(),
                         " --latent 3 4 4 4 --guidance-low 3 --out ", (folder / "x.safetensors").string(), " 2>", log)
                      .c_str()),
      0);
  EXPECT_THAT(ReadFile(log), HasSubstr("a model of one transformer has one guidance"));
}

// Videos are drawn some at a time; with new noise each is what RenoiseSample makes of it alone.
TEST(Integrate, GivesAStudentNewNoiseAtEachStepAsItWasTrained) {
  TempFolder folder;
  WriteTinyModel(folder / "student", 1);
  TrajectoryOptions how;
  how.grid = ExactGrid(StudentSigmas({1000, 750, 500, 250}, 5));
  how.unipc = false;
  how.guidance = {1};
  how.step_noise = [](at::IntArrayRef shape, std::int64_t video, std::int64_t step) {
    return Noise(shape, 100 * video + step);
  };
  const at::Tensor noise = Noise({3, 3, 4, 4, 4}, 1), context = Noise({3, 8, 8}, 2);
  ModelParts parts;
  parts.experts.emplace_back().model = folder / "student";
  const at::Tensor drawn = Integrate(parts.experts, how, noise, Conditioning{context}, {}, {}).back();
  const WanTransformer student = WanTransformer::Load(folder / "student", at::kCPU);
  for (std::int64_t video = 0; video < 3; ++video) {
    const auto step_noise = [&](std::int64_t step) { return how.step_noise({3, 4, 4, 4}, video, step).unsqueeze(0); };
    const at::Tensor alone = RenoiseSample(student, noise.narrow(0, video, 1), how.grid.sigmas, step_noise,
                                           {context.narrow(0, video, 1)}, {}, 1);
    EXPECT_TRUE(at::allclose(drawn.narrow(0, video, 1), alone, 1e-4, 1e-5)) << video;
  }
}

TEST(Sample, WithNewNoiseNeedsTheStepsOfAStudent) {
  TempFolder folder;
  WriteTinyModel(folder / "model");
  SampleOptions options;
  options.model = folder / "model";
  options.rollout = "renoise";
  options.latent = {3, 4, 4, 4};
  options.out = {folder / "latents.safetensors"};
  EXPECT_THAT(ErrorOf([&] { Sample(options); }), HasSubstr("--student-steps"));
  options.student_steps = {1000, 500};
  const auto latents = [&] {
    Sample(options);
    return CopyToTensor(SafetensorsFile::Open(folder / "latents.safetensors").At("latents"));
  };
  const at::Tensor first = latents(), again = latents();
  EXPECT_TRUE(at::equal(first, again));
  options.rollout = "euler";
  EXPECT_FALSE(at::equal(latents(), first));
}

// A student of one step whose latents have 16 channels, with its VAE.
class SampleWithAVae : public testing::Test {
 protected:
  SampleWithAVae() {
    WriteTinyModel(folder_ / "model", 1, 24, 16);
    SaveTinyVae(TinyVae(false), folder_ / "vae");
    SaveTensors(folder_ / "text.safetensors", {{"context", Noise({1, 8, 8}, 2)}});
    options_.model = folder_ / "model";
    options_.vae = folder_ / "vae";
    options_.embeddings = folder_ / "text.safetensors";
    options_.student_steps = {1000};
    options_.latent = {16, 2, 4, 6};
    options_.out = {folder_ / "latents.safetensors", folder_ / "frames" / "all.png"};
    std::filesystem::create_directory(folder_ / "frames");
  }
  TempFolder folder_;
  SampleOptions options_;
};

TEST_F(SampleWithAVae, DecodesInTilesWhereAskedTo) {
  options_.vae_tile = 24;
  Sample(options_);
  const at::Tensor latents = CopyToTensor(SafetensorsFile::Open(options_.out[0]).At("latents"));
  const auto shown = [](const WanVae& vae, const at::Tensor& of) {  // uint8 [32, 5 frames in a row of 48, 3]
    return ToRgbFrames(vae.Decode(of)).permute({1, 0, 2, 3}).reshape({32, 5 * 48, 3});
  };
  WanVae vae = TinyVae(false);
  const at::Tensor frames = ReadVideo(folder_ / "frames")[0];
  EXPECT_FALSE(at::equal(frames, shown(vae, latents)));
  vae.TileSpace({.tile = 24, .stride = 16});
  EXPECT_LE((frames.to(at::kInt) - shown(vae, latents).to(at::kInt)).abs().max().item<int>(), 1);
}

TEST_F(SampleWithAVae, SaysWhichTilesThereAreBeforeItSamples) {
  options_.vae_tile = 20;
  EXPECT_THAT(ErrorOf([&] { Sample(options_); }), AllOf(HasSubstr("--vae-tile"), HasSubstr("give 16 or 24")));
  EXPECT_FALSE(std::filesystem::exists(options_.out[0]));
}

TEST(Sample, RefusesTilesWithoutAVae) {
  TempFolder folder;
  WriteTinyModel(folder / "model", 1);
  SampleOptions options;
  options.model = folder / "model";
  options.vae_tile = 256;
  options.out = {folder / "a.gif"};
  EXPECT_THAT(ErrorOf([&] { Sample(options); }), AllOf(HasSubstr("no VAE"), HasSubstr("--vae-tile")));
}

class SampleOfTwo : public testing::Test {
 protected:
  SampleOfTwo() {
    WriteTinyModel(folder_ / "model", 1);
    WriteWordPromptBank(folder_ / "bank.safetensors", {"a ball", "a cat"}, "", TinyModelConfig().text_dim);
    options_.model = folder_ / "model";
    options_.prompt_bank = folder_ / "bank.safetensors";
    options_.student_steps = {1000};
    options_.latent = {3, 4, 4, 4};
    options_.out = {folder_ / "a.mp4", folder_ / "b.gif", folder_ / "latents.safetensors"};
  }
  std::set<std::string> Made() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
      if (entry.is_regular_file() && entry.file_size() > 100) names.insert(entry.path().filename().string());
    }
    names.erase("bank.safetensors");
    return names;
  }
  TempFolder folder_;
  SampleOptions options_;
};

TEST_F(SampleOfTwo, NumbersTheVideos) {
  Sample(options_);
  EXPECT_THAT(Made(), ElementsAre("a-1.mp4", "a-2.mp4", "b-1.gif", "b-2.gif", "latents.safetensors"));
}

TEST_F(SampleOfTwo, PutsThemTogetherWhereAskedTo) {
  options_.side_by_side = true;
  Sample(options_);
  EXPECT_THAT(Made(), ElementsAre("a.mp4", "b.gif", "latents.safetensors"));
}

TEST(CheckExtensions, NamesATypeThatCannotBeWritten) {
  TempFolder folder;
  EXPECT_THAT(ErrorOf([&] { CheckExtensions({folder / "c.webm"}); }),
              HasSubstr("cannot write files of type \".webm\""));
}

}  // namespace
}  // namespace sgmd
