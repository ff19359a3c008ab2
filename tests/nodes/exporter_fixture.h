// A run that can be exported, as the launcher and the generator leave it.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/checkpoint_store.h"
#include "nodes/exporter/export.h"
#include "nodes/exporter/model_card.h"
#include "pipeline/flow/random.h"
#include "pipeline/models/lora.h"
#include "pipeline/models/wan_transformer.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_config.h"

namespace sgmd {

namespace fs = std::filesystem;

inline std::vector<std::string> NamesIn(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

// A run as the launcher and the generator leave it: teacher, resolved experiment, checkpoints with raw and averaged
// weights.
class Exporter : public testing::Test {
 protected:
  Exporter() : teacher_(TinyWanConfig(2)) {
    teacher_.Initialise(1);
    fs::create_directories(folder_ / "teacher");
    teacher_.Save(folder_ / "teacher");
    WriteFileAtomically(folder_ / "bank", "bank");
    experiment_ = SaveRunIn(run());
    Checkpoint(20, 0.1, 0.2);
    Checkpoint(40, 0.3, 0.4);
  }

  // Its identity. `more` is appended to the experiment.
  Digest SaveRunIn(const fs::path& run, const std::string& more = "", const std::string& teacher = "teacher") const {
    WriteFileAtomically(folder_ / "e.toml", StrCat(R"([experiment]
name = "tiny"
steps = 40
[model]
teacher = ")",
                                                   teacher, R"("
prompts = "bank"
guidance = 3
[data]
latent = [2, 4, 4, 4]
[optimizer.generator]
learning_rate = 1e-4
[optimizer.fake_score]
learning_rate = 1e-4
[ema]
decay = 0.9
)",
                                                   more));
    LaunchPlan plan;
    plan.experiment = LoadExperiment(folder_ / "e.toml");
    plan.topology.run.folder = run;
    ResolveDefaults(plan.topology);
    SaveRun(plan);
    return ExperimentDigest(plan.experiment);
  }

  fs::path run() const { return folder_ / "run"; }
  fs::path checkpoint(int step) const { return run() / StrCat("checkpoints/step-000000", step); }

  // Weights are the teacher's plus a number.
  NamedTensors Shifted(double by) const {
    NamedTensors tensors;
    for (const auto& [name, p] : teacher_.parameters()) tensors.emplace_back(name, p + by);
    return tensors;
  }
  void Checkpoint(std::int64_t step, double raw, std::optional<double> ema) {
    Checkpoint(CheckpointStore(run() / "checkpoints", experiment_), step, Shifted(raw),
               ema ? Shifted(*ema) : NamedTensors());
  }
  static void Checkpoint(const CheckpointStore& store, std::int64_t step, const NamedTensors& raw,
                         NamedTensors average) {
    const fs::path staged = store.Stage(step);
    std::map<std::string, Digest> files;
    SaveTensors(staged / "generator.model.safetensors", raw);
    if (!average.empty()) {
      average.emplace_back("ema.updates", at::full({1}, step, at::kLong));
      SaveTensors(staged / "generator.ema.safetensors", average);
    }
    for (const auto& name : NamesIn(staged)) files[name] = DigestFile(staged / name);
    store.Commit(step, files, 2);
  }
  void ExpectWeights(const fs::path& model, double shift, at::ScalarType through = at::kFloat) const {
    const WanTransformer loaded = WanTransformer::Load(model, at::kCPU);
    const NamedTensors expected = Shifted(shift);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(at::equal(loaded.parameters()[i].second, expected[i].second.to(through).to(at::kFloat)))
          << expected[i].first;
    }
  }
  fs::path ToDiffusers(const fs::path& source, WeightsChoice choice, ExportOptions options = {}) {
    options.overwrite = true;
    ExportDiffusers(OpenStudent(source, choice), options, folder_ / "out");
    return folder_ / "out";
  }

  TempFolder folder_;
  WanTransformer teacher_;
  Digest experiment_;
};

}  // namespace sgmd
