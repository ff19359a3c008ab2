// Adapters written for other tools; lora_check.py then loads them in diffusers.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "pipeline/flow/random.h"
#include "pipeline/models/lora.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

const std::filesystem::path kRoot = SGMD_PARITY_DIR;

TEST(LoraParity, AdaptersForDiffusers) {
  const SafetensorsFile reference = SafetensorsFile::Open(kRoot / "reference.safetensors");
  const auto tensor = [&](const char* name) { return CopyToTensor(reference.At(name)); };
  const WanTransformer base = WanTransformer::Load(kRoot / "transformer", at::kCPU);
  const auto run = [&](const WanTransformer& model) {
    return model.Forward(tensor("x"), tensor("sigma"), tensor("context"));
  };
  const c10::NoGradGuard no_grad;
  ASSERT_TRUE(at::allclose(run(base), tensor("output"), 1e-4, 1e-5));
  std::filesystem::create_directories(kRoot / "ours");
  NamedTensors results;
  for (const auto& [name, lora] :
       {std::pair{"lora", LoraConfig{4, 10.0}}, std::pair{"two_targets", LoraConfig{3, 3.0, {"q", "ffn.2"}}}}) {
    const WanTransformer adapted = base.WithAdapters(lora, 1);
    for (const auto& [key, p] : adapted.adapters()) p.add_(Noise(p.sizes(), SeedFor(2, 0, p.numel(), key)) * 0.2);
    WriteLora(kRoot / "ours" / (std::string(name) + ".safetensors"), adapted.adapters(), lora.Scale());
    WanTransformer merged = base.Clone();
    MergeLora(merged, adapted.adapters(), lora.Scale());
    results.emplace_back(name, run(merged));
    EXPECT_TRUE(at::allclose(run(adapted), results.back().second, 1e-4, 1e-5));
    EXPECT_FALSE(at::allclose(run(base), results.back().second, 1e-2, 1e-2));
  }
  SaveTensors(kRoot / "ours" / "results.safetensors", results);
}

}  // namespace
}  // namespace sgmd
