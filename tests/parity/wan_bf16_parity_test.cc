// The frozen transformer in bfloat16 against diffusers in bfloat16: the same parameters are kept in float32, and ours
// is no further from the float32 result than diffusers is.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>

#include "pipeline/models/wan_names.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

const std::filesystem::path kRoot = SGMD_PARITY_DIR;

double RelativeError(const at::Tensor& found, const at::Tensor& expected) {
  return ((found - expected).norm() / expected.norm()).item<double>();
}

TEST(WanBf16Parity, ComputesAsDiffusersDoes) {
  const SafetensorsFile reference = SafetensorsFile::Open(kRoot / "reference.safetensors");
  const auto tensor = [&](const char* name) { return CopyToTensor(reference.At(name)); };
  const c10::NoGradGuard no_grad;
  const at::Tensor exact = tensor("output"), theirs = tensor("output_bf16");
  const double their_error = RelativeError(theirs, exact);
  EXPECT_GT(their_error, 1e-4);
  for (const at::ScalarType storage : {at::kBFloat16, at::kFloat}) {
    const WanTransformer model = WanTransformer::Load(kRoot / "transformer", at::kCPU, {storage, at::kBFloat16});
    const at::Tensor ours = model.Forward(tensor("x"), tensor("sigma"), {tensor("context")});
    EXPECT_LT(RelativeError(ours, exact), 1.5 * their_error) << at::toString(storage);
    EXPECT_LT(RelativeError(ours, theirs), 1.5 * their_error) << at::toString(storage);
    std::cout << at::toString(storage) << ": ours to float32 " << RelativeError(ours, exact) << ", theirs to float32 "
              << their_error << ", ours to theirs " << RelativeError(ours, theirs) << "\n";
  }
}

TEST(WanBf16Parity, KeepsTheSameParametersInFloat32) {
  const SafetensorsFile reference = SafetensorsFile::Open(kRoot / "reference.safetensors");
  const WanTransformer model = WanTransformer::Load(kRoot / "transformer", at::kCPU, at::kBFloat16);
  for (const auto& [name, p] : model.parameters()) {
    const bool wide = CopyToTensor(reference.At("wide." + DiffusersName(name))).item<bool>();
    EXPECT_EQ(p.scalar_type() == at::kFloat, wide) << name;
  }
}

}  // namespace
}  // namespace sgmd
