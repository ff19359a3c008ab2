// What the evaluator makes of models of two experts: students from checkpoints, and a teacher's videos.
#include "nodes/evaluator/checkpoint_student.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nodes/evaluator/preview_comparison.h"
#include "pipeline/flow/random.h"
#include "pipeline/models/lora.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"
#include "tests/support/tiny_vae.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class TwoExpertRun : public testing::Test {
 protected:
  TwoExpertRun() {
    WriteTinyExperts(folder_ / "two");
    experiment_.model.teacher = folder_ / "two";
    experiment_.model.boundary = 0.875;
    fs::create_directories(folder_ / "checkpoint");
  }
  WanTransformer Start(const std::string& expert) const {
    return WanTransformer::Load(folder_ / "two" / expert, at::kCPU);
  }
  void Save(const std::string& state, const NamedTensors& tensors) const {
    SaveTensors(folder_ / "checkpoint" / ("generator." + state + ".safetensors"), tensors);
  }
  // The velocity that a model predicts at a noise level.
  static at::Tensor Velocity(const VelocityModel& model, double sigma) {
    const c10::NoGradGuard no_grad;
    return model.Forward(Noise({1, 3, 4, 4, 4}, 3), at::full({1}, sigma, at::kFloat), {Noise({1, 8, 8}, 4)});
  }
  static void ExpectEqual(const VelocityModel& model, double sigma, const VelocityModel& expected) {
    EXPECT_TRUE(at::equal(Velocity(model, sigma), Velocity(expected, sigma))) << sigma;
  }
  // Adds the weights of `model` scaled by `factor`, which it then has, under their names in checkpoints.
  static void Scale(const std::string& expert, WanTransformer& model, double factor, NamedTensors& state) {
    const c10::NoGradGuard no_grad;
    for (const auto& [name, p] : model.trained()) {
      p.mul_(factor);
      state.emplace_back(expert + "." + name, p);
    }
  }

  TempFolder folder_;
  Experiment experiment_;
};

TEST_F(TwoExpertRun, StudentHasBothExpertsOfTheCheckpoint) {
  WanTransformer high = Start(kHighNoiseExpert), low = Start(kLowNoiseExpert);
  CheckpointStudent student(experiment_);
  ExpectEqual(student.model(), 0.9, high);
  ExpectEqual(student.model(), 0.8, low);
  NamedTensors state;
  Scale(kHighNoiseExpert, high, 1.1, state);
  Scale(kLowNoiseExpert, low, 1.2, state);
  Save("model", state);
  ASSERT_TRUE(student.Load(folder_ / "checkpoint"));
  ExpectEqual(student.model(), 0.9, high);
  ExpectEqual(student.model(), 0.8, low);
}

TEST_F(TwoExpertRun, StudentKeepsTheExpertThatIsNotTrained) {
  experiment_.schedule.experts = TrainedExperts::kLowNoise;
  experiment_.ema.decay = 0.9;
  const WanTransformer high = Start(kHighNoiseExpert);
  WanTransformer low = Start(kLowNoiseExpert);
  CheckpointStudent student(experiment_);
  NamedTensors raw, average;
  Scale(kLowNoiseExpert, low, 1.1, raw);
  Save("model", raw);
  Scale(kLowNoiseExpert, low, 1.2, average);
  average.emplace_back("low_noise_model.ema.updates", at::ones({1}, at::kLong));
  Save("ema", average);
  ASSERT_TRUE(student.Load(folder_ / "checkpoint"));
  ExpectEqual(student.model(), 0.9, high);
  ExpectEqual(student.model(), 0.8, low);
}

TEST_F(TwoExpertRun, StudentHasTheAdaptersOfEachExpert) {
  experiment_.lora.rank = 2;
  experiment_.lora.alpha = 4;
  NamedTensors state;
  std::map<std::string, WanTransformer> adapted;
  const c10::NoGradGuard no_grad;
  for (const char* expert : {kHighNoiseExpert, kLowNoiseExpert}) {
    const auto seed = static_cast<std::uint64_t>(adapted.size());
    WanTransformer& model = adapted.emplace(expert, Start(expert).WithAdapters(LoraOf(experiment_), 0)).first->second;
    for (const auto& [name, p] : model.adapters()) p.copy_(Noise(p.sizes(), SeedFor(seed, 0, p.numel(), name)) * 0.2);
    Scale(expert, model, 1, state);
  }
  Save("model", state);
  CheckpointStudent student(experiment_);
  ASSERT_TRUE(student.Load(folder_ / "checkpoint"));
  ExpectEqual(student.model(), 0.9, adapted.at(kHighNoiseExpert));
  ExpectEqual(student.model(), 0.8, adapted.at(kLowNoiseExpert));
}

TEST_F(TwoExpertRun, StudentNamesTheTensorThatACheckpointLacks) {
  WanTransformer low = Start(kLowNoiseExpert);
  NamedTensors state;
  Scale(kLowNoiseExpert, low, 1.1, state);
  Save("model", state);
  CheckpointStudent student(experiment_);
  EXPECT_THAT(ErrorOf([&] { student.Load(folder_ / "checkpoint"); }), HasSubstr("high_noise_model.patch_embedding"));
  EXPECT_FALSE(student.Load(folder_ / "gone"));
}

// Three steps at shift 5 are at 1, 0.909 and 0.714: from 0.875 on two are the high-noise expert's, from 0.95 on one.
TEST(PreviewComparison, DrawsATeacherOfTwoExpertsByTheExperimentsBoundary) {
  TempFolder folder;
  WriteTinyExperts(folder / "two", 24, 16);
  SaveTinyVae(TinyVae(/*residual=*/false), folder / "vae");
  Experiment e;
  e.model.teacher = folder / "two";
  e.model.prompts = folder / "two/high_noise_model/prompt_bank.safetensors";
  e.model.guidance = 2;
  e.data.latent = {16, 2, 4, 4};
  Topology::Evaluator settings;
  settings.vae = folder / "vae";
  settings.videos = 2;
  settings.teacher_steps = 3;
  const auto teacher = [&](double boundary) {
    e.model.boundary = boundary;
    const PreviewComparison comparison(e, settings, folder / "evaluation");
    const at::Tensor kept =
        CopyToTensor(SafetensorsFile::Open(folder / "evaluation/teacher.safetensors").At("latents"));
    const WanExperts experts = WanExperts::Load(FindExperts(folder / "two", boundary), at::kCPU);
    comparison.Compare(experts, "itself", folder / "evaluation/videos/itself");
    EXPECT_TRUE(fs::exists(folder / "evaluation/videos/itself-2.mp4"));
    return kept;
  };
  const at::Tensor usual = teacher(0.875);
  EXPECT_FALSE(at::equal(teacher(0.95), usual));
  EXPECT_TRUE(at::equal(teacher(0.875), usual));
}

}  // namespace
}  // namespace sgmd
