#include "nodes/exporter/export.h"

#include <ATen/ATen.h>

#include <deque>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"
#include "nodes/exporter/diffusers_folder.h"
#include "nodes/exporter/model_card.h"
#include "nodes/exporter/student_weights.h"
#include "pipeline/models/lora.h"
#include "pipeline/models/wan_files.h"
#include "pipeline/models/wan_names.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

// Removes what a failed export leaves, unless told that it has become the real thing.
class Staged {
 public:
  explicit Staged(fs::path path) : path_(std::move(path)) { fs::remove_all(path_); }
  ~Staged() {
    std::error_code ignored;
    if (!kept_) fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }
  void Keep() { kept_ = true; }

 private:
  fs::path path_;
  bool kept_ = false;
};

void RequireFreeFolder(const fs::path& folder, bool overwrite) {
  if (!fs::exists(folder) || (fs::is_directory(folder) && fs::is_empty(folder))) return;
  if (overwrite && fs::exists(folder / "model_index.json")) return;
  throw Error("already exists", folder.string(),
              overwrite ? "not a Diffusers folder, so it is not replaced" : "--overwrite replaces an earlier export");
}

// Files beside a single model: ours may be written again, another model's may not be lost.
void RequireFreeFile(const fs::path& path, bool ours, const char* what) {
  if (fs::exists(path) && !ours) {
    throw Error(StrCat("the folder already holds ", what), path.string(), "export into a folder of its own");
  }
}

std::string CardAt(const fs::path& path) { return fs::exists(path) ? ReadFile(path) : std::string(); }

void RequireFreeTarget(const fs::path& target, bool overwrite) {
  if (target.extension() != ".safetensors") throw Error("the file's name must end in .safetensors", target.string());
  if (fs::exists(target) && !overwrite) throw Error("already exists", target.string(), "--overwrite replaces it");
  const fs::path card = target.parent_path() / "README.md";
  RequireFreeFile(card, CardAt(card).find(kCardMark) != std::string::npos, "a README.md");
}

// The files that `file` stands for: itself, or one of each expert that was trained. Throws Error unless they and the
// card beside them may be written.
std::vector<fs::path> TargetsOf(const std::vector<StudentExpert>& experts, const fs::path& file, bool overwrite) {
  std::vector<fs::path> targets;
  for (const StudentExpert& expert : experts) {
    targets.push_back(ExpertFile(file, expert.name));
    RequireFreeTarget(targets.back(), overwrite);
  }
  return targets;
}

// Gives what is whole its name.
void CommitFiles(const std::deque<Staged>& staged, const std::vector<fs::path>& targets, const std::string& card) {
  const fs::path folder = targets.front().parent_path();
  WriteFileAtomically(folder / "README.md", card);
  for (std::size_t i = 0; i < targets.size(); ++i) fs::rename(staged[i].path(), targets[i]);
  SyncPath(folder);
}

// Each is opened and found to fit before the first is written.
std::deque<StudentWeights> WeightsOf(const StudentSource& student, const std::vector<StudentExpert>& experts,
                                     DType dtype, const Naming& naming) {
  std::deque<StudentWeights> weights;
  for (const StudentExpert& expert : experts) weights.emplace_back(student, expert, dtype, naming);
  return weights;
}

void Write(const StudentWeights& weights, const fs::path& file, std::int64_t shard_bytes, bool verify) {
  weights.Write(file, shard_bytes);
  if (verify) weights.Verify(file);
}

void VerifyTensors(const fs::path& written, const NamedTensors& expected) {
  const SafetensorsFile file = SafetensorsFile::Open(written);
  for (const auto& [name, tensor] : expected) {
    if (!at::equal(CopyToTensor(file.At(name)), tensor)) {
      throw Error("reading back: " + name + " is not what was written", written.string(), "is the disk failing?");
    }
  }
}

fs::path Absolute(const fs::path& path) {
  const fs::path absolute = fs::absolute(path).lexically_normal();
  return absolute.filename().empty() ? absolute.parent_path() : absolute;
}

void RequireAdapters(const StudentSource& student) {
  if (student.adapters) return;
  throw Error("no adapters to export", student.weights.string(),
              student.experiment && student.experiment->lora.rank > 0
                  ? "they are merged into these weights: name the run or a checkpoint folder, where they still are"
                  : "only runs with [lora] rank > 0 train adapters; --diffusers and --original write the model");
}

// What a user of the folder has to know or do.
void Advise(const StudentSource& student, const StudentSchedule& schedule, const DiffusersScheduler& scheduler,
            const std::vector<std::string>& missing) {
  for (const std::string& part : missing) {
    LogInfo(part, "/ is not in the folder: --base <Diffusers folder> puts it there");
  }
  if (!scheduler.makes_grid) {
    LogWarning("diffusers' schedulers do not make steps that are spaced like these; see README.md");
  } else if (student.has_two_experts() && !schedule.Renoises() && !schedule.SplitsInDiffusersAt(student.boundary)) {
    LogWarning("diffusers rounds timesteps, and by them gives a step at the boundary ", student.boundary,
               " to the other expert");
  }
}

}  // namespace

void ExportDiffusers(const StudentSource& student, const ExportOptions& options, const fs::path& folder) {
  const fs::path target = Absolute(folder);
  RequireFreeFolder(target, options.overwrite);
  if (fs::exists(target) && !options.base.empty() && fs::equivalent(target, options.base)) {
    throw Error("the base is the folder that would be replaced", target.string(), "export into another folder");
  }
  const StudentSchedule schedule = StudentSchedule::Of(student);
  const DiffusersScheduler scheduler = DiffusersScheduler::Of(schedule);
  const std::string index = IndexJson(student, scheduler, options.base);
  const auto weights = WeightsOf(student, student.experts, options.dtype, DiffusersName);
  fs::create_directories(target.parent_path());
  Staged staged(StagingFolder(target));
  fs::create_directories(staged.path() / "scheduler");
  const auto missing = TakeBase(student.config, options, staged.path());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const fs::path transformer = staged.path() / kTransformerFolders[i];
    fs::create_directories(transformer);
    Write(weights[i], transformer / kWanWeightsName, static_cast<std::int64_t>(options.shard_gib * (1 << 30)),
          options.verify);
    WriteFileAtomically(transformer / "config.json", student.config.ToDiffusersJson());
  }
  WriteFileAtomically(staged.path() / "scheduler" / "scheduler_config.json", scheduler.Json());
  WriteFileAtomically(staged.path() / "model_index.json", index);
  WriteFileAtomically(staged.path() / "README.md",
                      ModelCard(student, ExportForm::kDiffusers, target.filename().string(), options.dtype, missing));
  CommitFolder(target);
  staged.Keep();
  Advise(student, schedule, scheduler, missing);
}

std::vector<fs::path> ExportOriginal(const StudentSource& student, const ExportOptions& options, const fs::path& file) {
  const fs::path target = Absolute(file), config = target.parent_path() / "config.json";
  const std::vector<StudentExpert> experts = student.Trained();
  const std::vector<fs::path> targets = TargetsOf(experts, target, options.overwrite);
  RequireFreeFile(config, CardAt(config) == student.config.ToJson(), "the config.json of another model");
  const auto weights = WeightsOf(student, experts, options.dtype, [](const std::string& name) { return name; });
  fs::create_directories(target.parent_path());
  std::deque<Staged> staged;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    staged.emplace_back(StagingFolder(targets[i]));
    Write(weights[i], staged[i].path(), 0, options.verify);
  }
  WriteFileAtomically(config, student.config.ToJson());
  CommitFiles(staged, targets,
              ModelCard(student, ExportForm::kOriginal, target.filename().string(), options.dtype, {}));
  return targets;
}

std::vector<fs::path> ExportLora(const StudentSource& student, const ExportOptions& options, const fs::path& file) {
  RequireAdapters(student);
  const fs::path target = Absolute(file);
  const std::vector<StudentExpert> experts = student.Trained();
  const std::vector<fs::path> targets = TargetsOf(experts, target, options.overwrite);
  RequireFreeFile(target.parent_path() / "config.json", false, "a model's config.json");
  const double scale = LoraOf(*student.experiment).Scale();
  const at::ScalarType dtype = ToTorch(options.dtype);
  fs::create_directories(target.parent_path());
  std::deque<Staged> staged;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const NamedTensors adapters = AdaptersOf(experts[i]);
    staged.emplace_back(StagingFolder(targets[i]));
    WriteLora(staged[i].path(), adapters, scale,
              {{"sgmd.weights", student.kind}, {"sgmd.updates", StrCat(*student.step)}}, dtype);
    if (options.verify) VerifyTensors(staged[i].path(), LoraTensors(adapters, scale, dtype));
  }
  CommitFiles(staged, targets, ModelCard(student, ExportForm::kLora, target.filename().string(), options.dtype, {}));
  return targets;
}

}  // namespace sgmd
