#include "nodes/exporter/student_source.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/model_folder.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

constexpr char kManifest[] = "MANIFEST.json", kEma[] = "generator.ema.safetensors",
               kRaw[] = "generator.model.safetensors";

std::optional<Experiment> ExperimentOf(const RunFolder& run) {
  if (!fs::exists(run.Experiment())) return {};
  return LoadExperiment(run.Experiment(), RequiredFiles::kNone);
}

// The student is the teacher's architecture; student/ has it where the teacher has gone.
WanConfig ConfigOf(const RunFolder& run, const std::optional<Experiment>& experiment) {
  const fs::path own = run.Student() / "config.json";
  if (fs::exists(own)) return WanConfig::FromFile(own);
  if (!experiment) throw Error("the run's experiment is missing", run.Experiment().string());
  return WanConfig::FromFile(FindModelConfig(experiment->model.teacher));
}

std::optional<fs::path> NewestCheckpoint(const fs::path& folder) {
  std::optional<fs::path> newest;
  if (!fs::is_directory(folder)) return newest;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const bool committed =
        entry.path().filename().string().starts_with("step-") && fs::exists(entry.path() / kManifest);
    if (committed && (!newest || entry.path() > *newest)) newest = entry.path();
  }
  return newest;
}

std::string ChooseFile(const nlohmann::json& files, WeightsChoice choice, const fs::path& folder) {
  const bool averaged = files.contains(kEma);
  if (choice == WeightsChoice::kEma && !averaged) {
    throw Error("the run keeps no average of its weights", folder.string(),
                "leave --ema out, or set [ema] decay in the experiment");
  }
  const std::string name = averaged && choice != WeightsChoice::kRaw ? kEma : kRaw;
  if (!files.contains(name)) throw Error("the checkpoint has no " + name, folder.string());
  return name;
}

StudentSource OfCheckpoint(const fs::path& folder, WeightsChoice choice) {
  const fs::path manifest_path = folder / kManifest;
  const auto manifest = nlohmann::json::parse(ReadFile(manifest_path), nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object() || !manifest.contains("step") || !manifest.contains("files")) {
    throw Error("not a checkpoint's manifest", manifest_path.string());
  }
  const std::string name = ChooseFile(manifest["files"], choice, folder);
  if (DigestFile(folder / name).Hex() != manifest["files"][name].get<std::string>()) {
    throw Error(name + " does not match the digest in " + kManifest, folder.string(),
                "the checkpoint is damaged; take another one");
  }
  const RunFolder run{fs::absolute(folder).lexically_normal().parent_path().parent_path()};
  std::optional<Experiment> experiment = ExperimentOf(run);
  WanConfig config = ConfigOf(run, experiment);
  const bool adapters = experiment && experiment->lora.rank > 0;
  return {std::move(config),
          ShardedSafetensors::Open(folder / name),
          name == kEma ? "ema" : "raw",
          manifest["step"].get<std::int64_t>(),
          std::move(experiment),
          run.root,
          adapters,
          manifest.value("experiment", "")};
}

StudentSource OfModel(const fs::path& model, WeightsChoice choice) {
  const ModelFiles files = FindModel(model);
  StudentSource source;
  source.config = WanConfig::FromFile(files.config);
  source.weights = ShardedSafetensors::Open(files.weights);
  const Metadata& metadata = source.weights.metadata();
  if (const auto kind = metadata.find("sgmd.weights"); kind != metadata.end()) source.kind = kind->second;
  if (const auto updates = metadata.find("sgmd.updates"); updates != metadata.end())
    source.step = std::stoll(updates->second);
  if ((choice == WeightsChoice::kEma && source.kind != "ema") ||
      (choice == WeightsChoice::kRaw && source.kind == "ema")) {
    throw Error(StrCat("these weights are ", source.kind.empty() ? "not said to be an average" : source.kind),
                files.weights.string(), "name the run or a checkpoint folder: both kinds are there");
  }
  const RunFolder run{fs::absolute(files.config).lexically_normal().parent_path().parent_path()};
  if (files.config.parent_path().filename() == "student" && fs::exists(run.Experiment())) {
    source.experiment = ExperimentOf(run);
    source.run = run.root;
  }
  return source;
}

}  // namespace

StudentSource OpenStudent(const fs::path& source, WeightsChoice choice) {
  if (fs::exists(source / kManifest)) return OfCheckpoint(source, choice);
  const RunFolder run{source};
  if (!fs::exists(run.Experiment())) return OfModel(source, choice);
  if (const auto checkpoint = NewestCheckpoint(run.Checkpoints())) return OfCheckpoint(*checkpoint, choice);
  if (fs::exists(run.Student())) return OfModel(run.Student(), choice);
  throw Error("the run has no checkpoint yet", run.Checkpoints().string(), "sgmd-launch status shows how far it is");
}

}  // namespace sgmd
