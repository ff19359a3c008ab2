// Writes exports with the program itself, and what our own forward and sampler make of the model; export_check.py loads
// both.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "nodes/exporter/diffusers_scheduler.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = SGMD_PARITY_DIR;

int RunProgram(const std::string& command) { return std::system(StrCat(SGMD_BIN_DIR, "/", command).c_str()); }

int Export(const std::string& arguments, const std::string& model = "base") {
  return RunProgram(StrCat("sgmd-export ", (kFolder / model).string(), " --overwrite ", arguments));
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

// Two experts; the four steps are drawn by our sampler from what was exported.
TEST(Export, WritesTwoExpertsThatTheCheckLoads) {
  const std::string out = (kFolder / "ours").string(), reference = (kFolder / "reference.safetensors").string();
  ASSERT_EQ(Export(StrCat("--diffusers ", out, "/experts --base ", (kFolder / "two").string(), " --original ", out,
                          "/experts_single/student.safetensors"),
                   "two"),
            0);
  ASSERT_EQ(
      RunProgram(StrCat("sgmd-sample --model ", out, "/experts --student-steps 1000 750 500 250 --shift 5 --noise ",
                        reference, " --embeddings ", reference, " --out ", out, "/experts_four_steps.safetensors")),
      0);
  const SafetensorsFile inputs = SafetensorsFile::Open(reference);
  const auto tensor = [&](const char* name) { return CopyToTensor(inputs.At(name)); };
  const c10::NoGradGuard no_grad;
  NamedTensors results;
  for (const char* part : {"transformer", "transformer_2"}) {
    const WanTransformer model = WanTransformer::Load(fs::path(out) / "experts" / part, at::kCPU);
    results.emplace_back(part, model.Forward(tensor("x"), tensor("sigma"), {tensor("context")}));
  }
  SaveTensors(out + "/experts_results.safetensors", results);
}

// Students that are given new noise at each step, with their sigmas beside what the exporter writes for them.
TEST(Export, WritesSchedulersWithNewNoiseThatTheCheckLoads) {
  const StudentSchedule students[] = {{{1000, 750, 500, 250}, 5, RolloutForm::kRenoise},
                                      {{1000, 280, 120}, 8, RolloutForm::kRenoise},
                                      {{1000, 500}, 3, RolloutForm::kRenoise},
                                      {{1000, 900, 500, 250}, 5, RolloutForm::kRenoise}};
  for (std::size_t i = 0; i < std::size(students); ++i) {
    const DiffusersScheduler scheduler = DiffusersScheduler::Of(students[i]);
    const fs::path folder = kFolder / "ours" / StrCat(scheduler.makes_grid ? "renoise-" : "renoise-given-", i);
    fs::create_directories(folder);
    WriteFileAtomically(folder / "scheduler_config.json", scheduler.Json());
    SaveTensors(folder / "sigmas.safetensors",
                {{"sigmas", at::tensor(StudentSigmas(students[i].steps, students[i].shift), at::kDouble)}});
  }
}

}  // namespace
}  // namespace sgmd
