// Models of two experts: where they are found in folders, and which of them a noise level is for.
#include "pipeline/models/wan_experts.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_config.h"
#include "tests/support/tiny_model.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class TwoExpertsOnDisk : public testing::Test {
 protected:
  void Write(const fs::path& part, double scale = 1, std::int64_t layers = 1) const {
    const WanTransformer model = RandomModel(TinyWanConfig(layers));
    const c10::NoGradGuard no_grad;
    for (const auto& [name, p] : model.parameters()) p.mul_(scale);
    fs::create_directories(folder_ / part);
    model.Save(folder_ / part);
  }
  fs::path Original(std::int64_t low_layers = 1) const {
    Write("original/high_noise_model", 1);
    Write("original/low_noise_model", 2, low_layers);
    return folder_ / "original";
  }
  fs::path Pipeline(const std::string& index) const {
    Write("pipe/transformer", 1);
    Write("pipe/transformer_2", 2);
    WriteFileAtomically(folder_ / "pipe/model_index.json", index);
    return folder_ / "pipe";
  }
  static std::string Refusal(const fs::path& model) {
    return ErrorOf([&] { FindExperts(model); });
  }

  TempFolder folder_;
};

TEST_F(TwoExpertsOnDisk, AreFoundInAnOriginalFolder) {
  const fs::path model = Original();
  for (const fs::path& path : {model, model / ""}) {
    const std::vector<Expert> experts = FindExperts(path);
    ASSERT_EQ(experts.size(), 2U);
    EXPECT_EQ(experts[0].name, "high_noise_model");
    EXPECT_EQ(experts[0].model, model / "high_noise_model");
    EXPECT_EQ(experts[0].min_sigma, 0.875);
    EXPECT_EQ(experts[1].name, "low_noise_model");
    EXPECT_EQ(experts[1].model, model / "low_noise_model");
    EXPECT_EQ(experts[1].min_sigma, 0);
  }
  EXPECT_EQ(FindExperts(model, 0.9)[0].min_sigma, 0.9);
}

TEST_F(TwoExpertsOnDisk, AreFoundInAPipelineThatSaysTheBoundary) {
  const std::vector<Expert> experts = FindExperts(Pipeline(R"({"boundary_ratio": 0.9})"));
  ASSERT_EQ(experts.size(), 2U);
  EXPECT_EQ(experts[0].name, "high_noise_model");
  EXPECT_EQ(experts[0].model, folder_ / "pipe/transformer");
  EXPECT_EQ(experts[0].min_sigma, 0.9);
  EXPECT_EQ(experts[1].model, folder_ / "pipe/transformer_2");
  EXPECT_THAT(Refusal(Pipeline(R"({"boundary_ratio": null})")), HasSubstr("no boundary_ratio that says"));
  EXPECT_THAT(Refusal(Pipeline(R"({"boundary_ratio": 875})")), HasSubstr("no number between 0 and 1"));
  EXPECT_THAT(Refusal(Pipeline("[]")), HasSubstr("not a JSON object"));
}

TEST_F(TwoExpertsOnDisk, AreOneTransformerElsewhere) {
  Write("one");
  Write("single/transformer");
  for (const char* name : {"one", "single", "single/transformer", "one/diffusion_pytorch_model.safetensors"}) {
    const std::vector<Expert> experts = FindExperts(folder_ / name);
    ASSERT_EQ(experts.size(), 1U) << name;
    EXPECT_EQ(experts[0].name, "") << name;
    EXPECT_EQ(experts[0].model, folder_ / name);
    EXPECT_EQ(experts[0].min_sigma, 0) << name;
    EXPECT_EQ(FindExperts(folder_ / name, 0.9)[0].min_sigma, 0) << name;
  }
}

TEST_F(TwoExpertsOnDisk, OneAloneIsRefused) {
  const fs::path original = Original(), pipe = Pipeline(R"({"boundary_ratio": 0.875})");
  for (const fs::path& one :
       {original / "high_noise_model", original / "low_noise_model", pipe / "transformer", pipe / "transformer_2/"}) {
    EXPECT_THAT(Refusal(one), AllOf(HasSubstr("one of two experts"), HasSubstr("the folder that both are in"))) << one;
    FindModel(one);  // is a transformer all the same
  }
  fs::remove_all(original / "low_noise_model");
  EXPECT_THAT(Refusal(original), HasSubstr("low_noise_model"));
  fs::remove_all(pipe / "transformer_2");
  EXPECT_THAT(Refusal(pipe), HasSubstr("transformer_2"));
}

TEST_F(TwoExpertsOnDisk, AreNotLoadedAsOneTransformer) {
  for (const fs::path& both : {Original(), Pipeline(R"({"boundary_ratio": 0.875})")}) {
    EXPECT_THAT(ErrorOf([&] { FindModel(both); }), AllOf(HasSubstr("a model of two experts"), HasSubstr("name one")));
    EXPECT_THAT(ErrorOf([&] { WanTransformer::Load(both, at::kCPU); }), HasSubstr("a model of two experts"));
  }
}

TEST_F(TwoExpertsOnDisk, EachTakesItsNoiseLevels) {
  const std::vector<Expert> found = FindExperts(Original());
  const WanExperts both = WanExperts::Load(found, at::kCPU),
                   later = WanExperts::Load(FindExperts(folder_ / "original", 0.95), at::kCPU);
  const WanTransformer high = WanTransformer::Load(found[0].model, at::kCPU),
                       low = WanTransformer::Load(found[1].model, at::kCPU);
  const TinyInputs inputs;
  const auto run = [&](const VelocityModel& model, double sigma) {
    return model.Forward(inputs.x, at::full({2}, sigma, at::kFloat), {inputs.context});
  };
  EXPECT_FALSE(at::equal(run(high, 0.9), run(low, 0.9)));
  for (const double sigma : {1.0, 0.9, 0.875}) EXPECT_TRUE(at::equal(run(both, sigma), run(high, sigma))) << sigma;
  for (const double sigma : {0.8749, 0.3, 0.0}) EXPECT_TRUE(at::equal(run(both, sigma), run(low, sigma))) << sigma;
  EXPECT_TRUE(at::equal(run(later, 0.9), run(low, 0.9)));
  EXPECT_TRUE(at::equal(run(WanExperts(low.Clone()), 0.9), run(low, 0.9)));
}

TEST_F(TwoExpertsOnDisk, ShareNoBatch) {
  const WanExperts both = WanExperts::Load(FindExperts(Original()), at::kCPU);
  const TinyInputs inputs;  // at 0.4 and 0.8
  both.Forward(inputs.x, inputs.sigma, {inputs.context});
  EXPECT_THAT(ErrorOf([&] {
                both.Forward(inputs.x, at::tensor({0.9F, 0.8F}), {inputs.context});
              }),
              HasSubstr("a batch at noise levels from 0.8 to 0.9 is for two experts"));
}

TEST_F(TwoExpertsOnDisk, AreOfOneSize) {
  EXPECT_THAT(ErrorOf([&] { WanExperts::Load(FindExperts(Original(2)), at::kCPU); }),
              HasSubstr("the two experts have other sizes than each other"));
}

}  // namespace
}  // namespace sgmd
