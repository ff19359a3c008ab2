// Models that diffusers saved, loaded here: forward and all gradients.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <iostream>

#include "common/storage/sharded_safetensors.h"
#include "pipeline/models/wan_names.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

// The largest difference relative to the largest magnitude of the reference.
double RelativeError(const at::Tensor& ours, const at::Tensor& reference) {
  return ((ours - reference).abs().max() / reference.abs().max()).item<double>();
}

class WanTransformerParity : public testing::TestWithParam<const char*> {};

TEST_P(WanTransformerParity, ForwardAndGradients) {
  const fs::path folder = fs::path(SGMD_PARITY_DIR) / GetParam();
  const SafetensorsFile reference = SafetensorsFile::Open(folder.string() + ".safetensors");
  const auto tensor = [&](const std::string& name) { return CopyToTensor(reference.At(name)); };
  const at::Tensor x = tensor("x").requires_grad_(true);
  WanTransformer model = WanTransformer::Load(folder, at::kCPU, x.scalar_type());
  model.SetRequiresGrad(true);
  Conditioning condition{tensor("context")};
  if (reference.Find("image") != nullptr) condition.image = tensor("image");
  if (model.config().takes_clip()) condition.clip = tensor("clip");
  at::Tensor output = model.Forward(x, tensor("sigma"), condition);
  output = output.slice(2, output.size(2) - tensor("output").size(2));  // behind a held first frame
  ASSERT_EQ(output.sizes(), tensor("output").sizes());
  const double forward = RelativeError(output.detach(), tensor("output"));
  output.backward(tensor("upstream"));
  const double input_gradient = RelativeError(x.grad(), tensor("grad.x"));
  double worst = 0;
  std::string worst_name;
  for (const auto& [name, p] : model.parameters()) {
    const double error = RelativeError(p.grad(), tensor("grad." + DiffusersName(name)));
    EXPECT_LE(error, 1e-4) << name;
    if (error > worst) worst = error, worst_name = name;
  }
  std::cout << GetParam() << ": forward " << forward << ", input gradient " << input_gradient << ", weight gradients "
            << worst << " (" << worst_name << ")\n";
  EXPECT_LE(forward, 1e-5);
  EXPECT_LE(input_gradient, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Cases, WanTransformerParity,
                         testing::Values("small", "real_head", "coarse_patches", "deep_patches_sharded", "image",
                                         "image_clip", "image_clip_real_head", "held_image"),
                         [](const auto& info) { return std::string(info.param); });

TEST(WanTransformerParityFiles, OneCaseIsSharded) {
  EXPECT_TRUE(
      fs::exists(fs::path(SGMD_PARITY_DIR) / "deep_patches_sharded/diffusion_pytorch_model.safetensors.index.json"));
}

}  // namespace
}  // namespace sgmd
