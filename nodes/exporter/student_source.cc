#include "nodes/exporter/student_source.h"

#include <algorithm>
#include <map>

#include "common/config/role.h"
#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/storage/checkpoint_layout.h"
#include "pipeline/data/bank_index.h"
#include "pipeline/models/lora.h"
#include "pipeline/models/role_experts.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

std::optional<Experiment> ExperimentOf(const RunFolder& run) {
  if (!fs::exists(run.Experiment())) return {};
  return LoadExperiment(run.Experiment(), RequiredFiles::kNone);
}

// That of the model that the student started from; student/ has it where that has gone.
WanConfig ConfigOf(const RunFolder& run, const std::optional<Experiment>& experiment) {
  for (const char* part : {"", kHighNoiseExpert, kLowNoiseExpert}) {
    const fs::path own = run.Student() / part / "config.json";
    if (fs::exists(own)) return WanConfig::FromFile(own);
  }
  if (!experiment) throw Error("the run's experiment is missing", run.Experiment().string());
  const std::vector<Expert> start = FindExperts(ModelOf(*experiment, Role::kGenerator));
  return WanConfig::FromFile(FindModelConfig(start.front().model));
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

// The transformers that a checkpoint's weights are of, by what stands before the names of their tensors.
std::vector<StudentExpert> ExpertsIn(const ShardedSafetensors& weights) {
  std::vector<StudentExpert> experts;
  bool two = false;
  for (const char* name : {kHighNoiseExpert, kLowNoiseExpert}) {
    const std::string prefix = PrefixOf({name, {}, 0});
    const bool trained = std::ranges::any_of(
        weights.tensors(), [&](const TensorView& view) { return std::string_view(view.name).starts_with(prefix); });
    two |= trained;
    experts.push_back({name, trained ? std::optional(weights) : std::nullopt, prefix, trained});
  }
  if (two) return experts;
  return {{"", weights, "", true}};
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
  StudentSource source;
  source.experiment = ExperimentOf(run);
  source.config = ConfigOf(run, source.experiment);
  const ShardedSafetensors weights = ShardedSafetensors::OfRanks(files);
  source.experts = ExpertsIn(weights);
  if (source.has_two_experts()) {
    source.boundary =
        source.experiment ? source.experiment->model.boundary : FindExperts(run.Student()).front().min_sigma;
  }
  source.weights = weights.path();
  source.kind = averaged ? "ema" : "raw";
  source.step = manifest.step;
  source.run = run.root;
  source.adapters = source.experiment && source.experiment->lora.rank > 0;
  source.identity = manifest.experiment.Hex();
  return source;
}

// The run whose student/ the folder is; else nothing.
std::optional<RunFolder> RunOfStudent(const fs::path& folder) {
  const RunFolder run{folder.parent_path()};
  if (folder.filename() != "student" || !fs::exists(run.Experiment())) return {};
  return run;
}

// What a run trained, as [schedule] experts says.
bool IsTrained(const Experiment& experiment, const std::string& expert) {
  const TrainedExperts trained = experiment.schedule.experts;
  return expert.empty() || trained == TrainedExperts::kBoth ||
         expert == (trained == TrainedExperts::kHighNoise ? kHighNoiseExpert : kLowNoiseExpert);
}

// Adds what the file of a trained transformer says of itself. An update is of one of two experts.
void TakeMetadata(const ShardedSafetensors& weights, StudentSource& source) {
  const Metadata& metadata = weights.metadata();
  if (const auto kind = metadata.find("sgmd.weights"); kind != metadata.end()) source.kind = kind->second;
  if (const auto updates = metadata.find("sgmd.updates"); updates != metadata.end())
    source.step = source.step.value_or(0) + std::stoll(updates->second);
}

void RequireKind(const StudentSource& source, WeightsChoice choice) {
  if ((choice == WeightsChoice::kEma && source.kind != "ema") ||
      (choice == WeightsChoice::kRaw && source.kind == "ema")) {
    throw Error(StrCat("these weights are ", source.kind.empty() ? "not said to be an average" : source.kind),
                source.weights.string(), "name the run or a checkpoint folder: both kinds are there");
  }
}

StudentSource OfModel(const fs::path& model, WeightsChoice choice) {
  const std::vector<Expert> found = FindExperts(model);
  const ModelFiles first = FindModel(found.front().model);
  const fs::path folder = fs::absolute(first.config).lexically_normal().parent_path();
  const auto run = RunOfStudent(found.size() == 1 ? folder : folder.parent_path());
  StudentSource source;
  source.config = WanConfig::FromFile(first.config);
  if (run) source.experiment = ExperimentOf(*run);
  if (run) source.run = run->root;
  source.weights = found.size() == 1 ? first.weights : model;
  if (found.size() > 1)
    source.boundary = source.experiment ? source.experiment->model.boundary : found.front().min_sigma;
  for (const Expert& expert : found) {
    const ModelFiles files = FindModel(expert.model);
    if (WanConfig::FromFile(files.config) != source.config)
      throw Error("the two experts have other sizes than each other", files.config.string());
    const bool trained = !source.experiment || IsTrained(*source.experiment, expert.name);
    source.experts.push_back({expert.name, ShardedSafetensors::Open(files.weights), "", trained});
    if (trained) TakeMetadata(*source.experts.back().weights, source);
  }
  RequireKind(source, choice);
  return source;
}

bool BeginsWithPicture(const StudentSource& source) {
  if (!source.config.may_hold_image() || !source.experiment) return source.config.takes_image();
  const fs::path& prompts = source.experiment->model.prompts;
  return fs::exists(prompts) && !BankIndex::Open(prompts).images().empty();
}

StudentSource Find(const fs::path& source, WeightsChoice choice) {
  if (IsCheckpoint(source)) return OfCheckpoint(source, choice);
  const RunFolder run{source};
  if (!fs::exists(run.Experiment())) return OfModel(source, choice);
  if (const auto checkpoint = NewestCheckpoint(run.Checkpoints())) return OfCheckpoint(*checkpoint, choice);
  if (fs::exists(run.Student())) return OfModel(run.Student(), choice);
  throw Error("the run has no checkpoint yet", run.Checkpoints().string(), "sgmd-launch status shows how far it is");
}

}  // namespace

std::vector<StudentExpert> StudentSource::Trained() const {
  std::vector<StudentExpert> trained;
  std::ranges::copy_if(experts, std::back_inserter(trained), &StudentExpert::trained);
  return trained;
}

StudentSource OpenStudent(const fs::path& source, WeightsChoice choice) {
  StudentSource student = Find(source, choice);
  student.begins_with_picture = BeginsWithPicture(student);
  return student;
}

NamedTensors AdaptersOf(const StudentExpert& expert) {
  NamedTensors own;
  for (const auto& [name, tensor] : ReadAdapters(*expert.weights)) {
    if (name.starts_with(expert.prefix)) own.emplace_back(name.substr(expert.prefix.size()), tensor);
  }
  return own;
}

fs::path ExpertFile(const fs::path& file, const std::string& expert) {
  if (expert.empty()) return file;
  const char* side = expert == kHighNoiseExpert ? "_high_noise" : "_low_noise";
  return file.parent_path() / StrCat(file.stem().string(), side, file.extension().string());
}

}  // namespace sgmd
