// Adapters written for other tools; lora_check.py then loads them in diffusers.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/checkpoint_store.h"
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
    return model.Forward(tensor("x"), tensor("sigma"), {tensor("context")});
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

// A run whose generator trained adapters over the model of the reference: what is left of it is a checkpoint.
TEST(LoraParity, AdaptersThatTheProgramExports) {
  const c10::NoGradGuard no_grad;
  const std::filesystem::path ours = kRoot / "ours", run = kRoot / "run";
  std::filesystem::remove_all(run);
  std::filesystem::create_directories(ours);
  WriteFileAtomically(kRoot / "bank", "not read");
  WriteFileAtomically(kRoot / "e.toml",
                      StrCat("[experiment]\nname = \"lora\"\nsteps = 7\n[model]\nteacher = \"transformer\"\n"
                             "prompts = \"bank\"\nguidance = 3\n[data]\nlatent = [4, 3, 6, 8]\n"
                             "[optimizer.generator]\nlearning_rate = 1e-4\n"
                             "[optimizer.fake_score]\nlearning_rate = 1e-4\n[lora]\nrank = 4\nalpha = 10\n"));
  LaunchPlan plan;
  plan.experiment = LoadExperiment(kRoot / "e.toml");
  plan.topology.run.folder = run;
  ResolveDefaults(plan.topology);
  SaveRun(plan);
  const WanTransformer adapted =
      WanTransformer::Load(kRoot / "transformer", at::kCPU).WithAdapters(LoraOf(plan.experiment), 1);
  for (const auto& [key, p] : adapted.adapters()) p.add_(Noise(p.sizes(), SeedFor(2, 0, p.numel(), key)) * 0.2);
  const CheckpointStore store(run / "checkpoints", ExperimentDigest(plan.experiment));
  const std::string name = "generator.model.safetensors";
  SaveTensors(store.Stage(7) / name, adapted.adapters());
  store.Commit(7, {{name, DigestFile(store.Stage(7) / name)}}, 1);

  ASSERT_EQ(std::system(StrCat(SGMD_BIN_DIR "/sgmd-export ", run.string(), " --overwrite --diffusers ",
                               (ours / "merged").string(), " --lora ", (ours / "exported.safetensors").string())
                            .c_str()),
            0);
  const SafetensorsFile reference = SafetensorsFile::Open(kRoot / "reference.safetensors");
  const auto tensor = [&](const char* part) { return CopyToTensor(reference.At(part)); };
  const at::Tensor result =
      WanTransformer::Load(ours / "merged", at::kCPU).Forward(tensor("x"), tensor("sigma"), {tensor("context")});
  EXPECT_TRUE(at::allclose(adapted.Forward(tensor("x"), tensor("sigma"), {tensor("context")}), result, 1e-4, 1e-5));
  SaveTensors(ours / "exported_results.safetensors", {{"exported", result}});
}

}  // namespace
}  // namespace sgmd
