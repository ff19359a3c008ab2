#include "nodes/exporter/export.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"
#include "nodes/exporter/model_card.h"
#include "nodes/exporter/student_weights.h"
#include "pipeline/models/lora.h"
#include "pipeline/models/wan_files.h"
#include "pipeline/models/wan_names.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* kBaseParts[] = {"text_encoder", "tokenizer", "vae"};
constexpr char kDiffusersVersion[] = "0.35.0";  // the first that knows transformer_2 and expand_timesteps

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

// Order 1 with the corrector off is Euler; with flow sigmas and an even schedule its sigmas are the student's
// (wan_facts §5), up to 0.001: its unshifted grid ends there and not at 0.
std::string SchedulerJson(const StudentSchedule& schedule) {
  std::vector<std::size_t> uncorrected;
  for (std::size_t i = 0; i + 1 < schedule.steps.size(); ++i) uncorrected.push_back(i);
  return ordered_json{{"_class_name", "UniPCMultistepScheduler"},
                      {"_diffusers_version", kDiffusersVersion},
                      {"num_train_timesteps", 1000},
                      {"prediction_type", "flow_prediction"},
                      {"use_flow_sigmas", true},
                      {"flow_shift", schedule.shift},
                      {"solver_order", 1},
                      {"solver_type", "bh2"},
                      {"predict_x0", true},
                      {"disable_corrector", uncorrected},
                      {"final_sigmas_type", "zero"},
                      {"timestep_spacing", "linspace"}}
             .dump(2) +
         "\n";
}

ordered_json ReadIndex(const fs::path& base) {
  const fs::path path = base / "model_index.json";
  if (!fs::exists(path)) throw Error("not a Diffusers folder: no model_index.json", base.string());
  ordered_json index = ordered_json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  if (!index.is_object()) throw Error("not a JSON object", path.string());
  return index;
}

// Parts that are not in the folder are named all the same: it is complete once they are put there.
std::string IndexJson(const WanConfig& config, const fs::path& base) {
  ordered_json index{{"_class_name", "WanPipeline"},
                     {"_diffusers_version", kDiffusersVersion},
                     {"boundary_ratio", nullptr},
                     {"expand_timesteps", config.model_type == "ti2v"},
                     {"scheduler", {"diffusers", "UniPCMultistepScheduler"}},
                     {"text_encoder", {"transformers", "UMT5EncoderModel"}},
                     {"tokenizer", {"transformers", "T5TokenizerFast"}},
                     {"transformer", {"diffusers", "WanTransformer3DModel"}},
                     {"transformer_2", {nullptr, nullptr}},
                     {"vae", {"diffusers", "AutoencoderKLWan"}}};
  if (!base.empty()) {
    const ordered_json of_base = ReadIndex(base);
    for (const char* part : kBaseParts) {
      if (of_base.contains(part)) index[part] = of_base[part];
    }
  }
  return index.dump(2) + "\n";
}

// The parts that are still missing afterwards.
std::vector<std::string> TakeBase(const ExportOptions& options, const fs::path& folder) {
  std::vector<std::string> missing;
  for (const char* part : kBaseParts) {
    const fs::path from = options.base / part;
    if (options.base.empty()) {
      missing.emplace_back(part);
    } else if (!fs::is_directory(from)) {
      throw Error(StrCat("the base has no ", part, "/"), options.base.string(),
                  "--base takes a complete Diffusers folder");
    } else if (options.copy_base) {
      fs::copy(from, folder / part, fs::copy_options::recursive);
    } else {
      fs::create_directory_symlink(fs::canonical(from), folder / part);
    }
  }
  return missing;
}

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

void CommitFile(const Staged& staged, const fs::path& target, const std::string& card) {
  WriteFileAtomically(target.parent_path() / "README.md", card);
  fs::rename(staged.path(), target);
  SyncPath(target.parent_path());
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

}  // namespace

void ExportDiffusers(const StudentSource& student, const ExportOptions& options, const fs::path& folder) {
  const fs::path target = Absolute(folder);
  RequireFreeFolder(target, options.overwrite);
  if (fs::exists(target) && !options.base.empty() && fs::equivalent(target, options.base)) {
    throw Error("the base is the folder that would be replaced", target.string(), "export into another folder");
  }
  const std::string index = IndexJson(student.config, options.base);
  const StudentSchedule schedule = StudentSchedule::Of(student);
  const StudentWeights weights(student, options.dtype, [](const std::string& name) { return DiffusersName(name); });
  fs::create_directories(target.parent_path());
  Staged staged(StagingFolder(target));
  for (const char* part : {"scheduler", "transformer"}) fs::create_directories(staged.path() / part);
  const auto missing = TakeBase(options, staged.path());
  const fs::path file = staged.path() / "transformer" / kWanWeightsName;
  weights.Write(file, static_cast<std::int64_t>(options.shard_gib * (1 << 30)));
  if (options.verify) weights.Verify(file);
  WriteFileAtomically(staged.path() / "transformer" / "config.json", student.config.ToDiffusersJson());
  WriteFileAtomically(staged.path() / "scheduler" / "scheduler_config.json", SchedulerJson(schedule));
  WriteFileAtomically(staged.path() / "model_index.json", index);
  WriteFileAtomically(staged.path() / "README.md",
                      ModelCard(student, ExportForm::kDiffusers, target.filename().string(), options.dtype, missing));
  CommitFolder(target);
  staged.Keep();
  for (const std::string& part : missing) {
    LogInfo(part, "/ is not in the folder: --base <Diffusers folder> puts it there");
  }
  if (!schedule.IsEven()) {
    LogWarning("the steps are not evenly spaced: diffusers' schedulers do not make them; see README.md");
  }
}

void ExportOriginal(const StudentSource& student, const ExportOptions& options, const fs::path& file) {
  const fs::path target = Absolute(file), config = target.parent_path() / "config.json";
  RequireFreeTarget(target, options.overwrite);
  RequireFreeFile(config, CardAt(config) == student.config.ToJson(), "the config.json of another model");
  const StudentWeights weights(student, options.dtype, [](const std::string& name) { return name; });
  fs::create_directories(target.parent_path());
  const Staged staged(StagingFolder(target));
  weights.Write(staged.path(), 0);
  if (options.verify) weights.Verify(staged.path());
  WriteFileAtomically(config, student.config.ToJson());
  CommitFile(staged, target, ModelCard(student, ExportForm::kOriginal, target.filename().string(), options.dtype, {}));
}

void ExportLora(const StudentSource& student, const ExportOptions& options, const fs::path& file) {
  if (!student.adapters) {
    throw Error("no adapters to export", student.weights.path().string(),
                student.experiment && student.experiment->lora.rank > 0
                    ? "they are merged into these weights: name the run or a checkpoint folder, where they still are"
                    : "only runs with [lora] rank > 0 train adapters; --diffusers and --original write the model");
  }
  const fs::path target = Absolute(file);
  RequireFreeTarget(target, options.overwrite);
  RequireFreeFile(target.parent_path() / "config.json", false, "a model's config.json");
  const NamedTensors adapters = ReadAdapters(student.weights);
  const double scale = LoraOf(*student.experiment).Scale();
  const at::ScalarType dtype = ToTorch(options.dtype);
  fs::create_directories(target.parent_path());
  const Staged staged(StagingFolder(target));
  WriteLora(staged.path(), adapters, scale, {{"sgmd.weights", student.kind}, {"sgmd.updates", StrCat(*student.step)}},
            dtype);
  if (options.verify) VerifyTensors(staged.path(), LoraTensors(adapters, scale, dtype));
  CommitFile(staged, target, ModelCard(student, ExportForm::kLora, target.filename().string(), options.dtype, {}));
}

}  // namespace sgmd
