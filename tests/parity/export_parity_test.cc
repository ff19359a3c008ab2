// Writes exports with the program itself, and what our own forward and sampler make of the model; export_check.py loads
// both.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/error/error.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = SGMD_PARITY_DIR;

int Export(const std::string& arguments) {
  return std::system(
      StrCat(SGMD_BIN_DIR, "/sgmd-export ", (kFolder / "base").string(), " --overwrite ", arguments).c_str());
}

TEST(Export, WritesWhatTheCheckLoads) {
  const std::string out = (kFolder / "ours").string();
  ASSERT_EQ(Export(StrCat("--diffusers ", out, "/pipeline --shard-gib 0.0001 --base ", (kFolder / "base").string(),
                          " --original ", out, "/single/student.safetensors")),
            0);
  EXPECT_TRUE(fs::exists(out + "/pipeline/transformer/diffusion_pytorch_model.safetensors.index.json"));
  ASSERT_EQ(Export(StrCat("--dtype bfloat16 --diffusers ", out, "/bf16 --original ", out,
                          "/bf16_single/student.safetensors")),
            0);

  const SafetensorsFile reference = SafetensorsFile::Open(kFolder / "reference.safetensors");
  const auto tensor = [&](const char* name) { return CopyToTensor(reference.At(name)); };
  const c10::NoGradGuard no_grad;
  NamedTensors results;
  for (const char* kind : {"pipeline", "single", "bf16"}) {
    const WanTransformer model = WanTransformer::Load(fs::path(out) / kind, at::kCPU);
    results.emplace_back(kind, model.Forward(tensor("x"), tensor("sigma"), {tensor("context")}));
    if (kind == std::string("pipeline")) {
      results.emplace_back("four_steps", EulerSample(model, tensor("noise"), StudentSigmas({1000, 750, 500, 250}, 5.0),
                                                     {tensor("context")}, {}, 1.0));
    }
  }
  SaveTensors(out + "/results.safetensors", results);
}

}  // namespace
}  // namespace sgmd
