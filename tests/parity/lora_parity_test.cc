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

// What a run leaves whose generator trained adapters of these transformers, by what stands before their names: a
// checkpoint. Returns the adapted transformers.
std::vector<WanTransformer> LeaveRun(const std::filesystem::path& run, const std::string& teacher,
                                     const std::vector<std::pair<std::string, std::filesystem::path>>& transformers) {
  std::filesystem::remove_all(run);
  std::filesystem::create_directories(kRoot / "ours");
  const std::string name = run.filename().string(), bank = name + ".bank";
  const std::filesystem::path experiment = kRoot / (name + ".toml");
  WriteFileAtomically(kRoot / bank, "not read");
  WriteFileAtomically(
      experiment,
      StrCat("[experiment]\nname = \"lora\"\nsteps = 7\n[model]\nteacher = \"", teacher, "\"\nprompts = \"", bank,
             "\"\nguidance = 3\n[data]\nlatent = [4, 3, 6, 8]\n"
             "[optimizer.generator]\nlearning_rate = 1e-4\n"
             "[optimizer.fake_score]\nlearning_rate = 1e-4\n[lora]\nrank = 4\nalpha = 10\n"));
  LaunchPlan plan;
  plan.experiment = LoadExperiment(experiment);
  plan.topology.run.folder = run;
  ResolveDefaults(plan.topology);
  SaveRun(plan);
  std::vector<WanTransformer> adapted;
  NamedTensors trained;
  for (const auto& [prefix, model] : transformers) {
    const auto seed = static_cast<std::uint64_t>(2 + adapted.size());
    adapted.push_back(WanTransformer::Load(model, at::kCPU).WithAdapters(LoraOf(plan.experiment), 1));
    for (const auto& [key, p] : adapted.back().adapters()) {
      p.add_(Noise(p.sizes(), SeedFor(seed, 0, p.numel(), key)) * 0.2);
      trained.emplace_back(prefix + key, p);
    }
  }
  const CheckpointStore store(run / "checkpoints", ExperimentDigest(plan.experiment));
  const std::string file = "generator.model.safetensors";
  SaveTensors(store.Stage(7) / file, trained);
  store.Commit(7, {{file, DigestFile(store.Stage(7) / file)}}, 1);
  return adapted;
}

int Export(const std::filesystem::path& run, const std::string& merged, const std::string& lora) {
  return std::system(StrCat(SGMD_BIN_DIR, "/sgmd-export ", run.string(), " --overwrite --diffusers ",
                            (kRoot / "ours" / merged).string(), " --lora ", (kRoot / "ours" / lora).string())
                         .c_str());
}

TEST(LoraParity, AdaptersThatTheProgramExports) {
  const c10::NoGradGuard no_grad;
  const std::filesystem::path ours = kRoot / "ours";
  const WanTransformer adapted =
      std::move(LeaveRun(kRoot / "run", "transformer", {{"", kRoot / "transformer"}}).front());
  ASSERT_EQ(Export(kRoot / "run", "merged", "exported.safetensors"), 0);
  const SafetensorsFile reference = SafetensorsFile::Open(kRoot / "reference.safetensors");
  const auto tensor = [&](const char* part) { return CopyToTensor(reference.At(part)); };
  const at::Tensor result =
      WanTransformer::Load(ours / "merged", at::kCPU).Forward(tensor("x"), tensor("sigma"), {tensor("context")});
  EXPECT_TRUE(at::allclose(adapted.Forward(tensor("x"), tensor("sigma"), {tensor("context")}), result, 1e-4, 1e-5));
  SaveTensors(ours / "exported_results.safetensors", {{"exported", result}});
}

TEST(LoraParity, AdaptersOfTwoExpertsAreAFileOfEach) {
  const c10::NoGradGuard no_grad;
  LeaveRun(kRoot / "run_of_two", "two",
           {{"high_noise_model.", kRoot / "two/transformer"}, {"low_noise_model.", kRoot / "two/transformer_2"}});
  ASSERT_EQ(Export(kRoot / "run_of_two", "two_merged", "two.safetensors"), 0);
  for (const char* file : {"two_high_noise.safetensors", "two_low_noise.safetensors"})
    EXPECT_TRUE(std::filesystem::exists(kRoot / "ours" / file)) << file;
}

}  // namespace
}  // namespace sgmd
