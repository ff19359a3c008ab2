#include "nodes/exporter/student_source.h"

#include <map>

#include "common/config/role.h"
#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/storage/checkpoint_layout.h"
#include "common/storage/model_folder.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

std::optional<Experiment> ExperimentOf(const RunFolder& run) {
  if (!fs::exists(run.Experiment())) return {};
  return LoadExperiment(run.Experiment(), RequiredFiles::kNone);
}

// That of the model that the student started from; student/ has it where that has gone.
WanConfig ConfigOf(const RunFolder& run, const std::optional<Experiment>& experiment) {
  const fs::path own = run.Student() / "config.json";
  if (fs::exists(own)) return WanConfig::FromFile(own);
  if (!experiment) throw Error("the run's experiment is missing", run.Experiment().string());
  return WanConfig::FromFile(FindModelConfig(ModelOf(*experiment, Role::kGenerator)));
}

bool IsCheckpoint(const fs::path& folder) {
  return StepOfFolderName(fs::absolute(folder).lexically_normal().filename().string()).has_value();
}

std::optional<fs::path> NewestCheckpoint(const fs::path& folder) {
  std::map<std::int64_t, fs::path> checkpoints;
  if (!fs::is_directory(folder)) return {};
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (const auto step = StepOfFolderName(entry.path().filename().string())) checkpoints[*step] = entry.path();
  }
  if (checkpoints.empty()) return {};
  return checkpoints.rbegin()->second;
}

// The files of the student's weights of the kind that is asked for: one, or those of all ranks.
std::vector<std::string> ChooseFiles(const CheckpointManifest& manifest, WeightsChoice choice, bool* averaged,
                                     const fs::path& folder) {
  std::vector<std::string> files = manifest.FilesOf(Spell(Role::kGenerator), kAverageState, folder);
  *averaged = !files.empty() && choice != WeightsChoice::kRaw;
  if (choice == WeightsChoice::kEma && files.empty()) {
    throw Error("the run keeps no average of its weights", folder.string(),
                "leave --ema out, or set [ema] decay in the experiment");
  }
  if (!*averaged) files = manifest.FilesOf(Spell(Role::kGenerator), kModelState, folder);
  if (files.empty()) throw Error("the checkpoint has no weights of the generator", folder.string());
  return files;
}

StudentSource OfCheckpoint(const fs::path& folder, WeightsChoice choice) {
  const CheckpointManifest manifest = CheckpointManifest::Read(folder);
  bool averaged = false;
  std::vector<fs::path> files;
  for (const std::string& name : ChooseFiles(manifest, choice, &averaged, folder)) {
    files.push_back(folder / name);
    if (DigestFile(files.back()) != manifest.files.at(name)) {
      throw Error(name + " does not match its digest", folder.string(), "the checkpoint is damaged; take another one");
    }
  }
  const RunFolder run{fs::absolute(folder).lexically_normal().parent_path().parent_path()};
  std::optional<Experiment> experiment = ExperimentOf(run);
  WanConfig config = ConfigOf(run, experiment);
  const bool adapters = experiment && experiment->lora.rank > 0;
  return {std::move(config),
          ShardedSafetensors::OfRanks(files),
          averaged ? "ema" : "raw",
          manifest.step,
          std::move(experiment),
          run.root,
          adapters,
          manifest.experiment.Hex()};
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
  if (IsCheckpoint(source)) return OfCheckpoint(source, choice);
  const RunFolder run{source};
  if (!fs::exists(run.Experiment())) return OfModel(source, choice);
  if (const auto checkpoint = NewestCheckpoint(run.Checkpoints())) return OfCheckpoint(*checkpoint, choice);
  if (fs::exists(run.Student())) return OfModel(run.Student(), choice);
  throw Error("the run has no checkpoint yet", run.Checkpoints().string(), "sgmd-launch status shows how far it is");
}

}  // namespace sgmd
