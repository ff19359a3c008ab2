#include "nodes/exporter/diffusers_folder.h"

#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "nodes/exporter/card_settings.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// The parts of a pipeline that are not trained.
std::vector<const char*> BaseParts(const WanConfig& config) {
  if (!config.takes_clip()) return {"text_encoder", "tokenizer", "vae"};
  return {"text_encoder", "tokenizer", "vae", "image_encoder", "image_processor"};
}

ordered_json ReadIndex(const fs::path& base) {
  const fs::path path = base / "model_index.json";
  if (!fs::exists(path)) throw Error("not a Diffusers folder: no model_index.json", base.string());
  ordered_json index = ordered_json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  if (!index.is_object()) throw Error("not a JSON object", path.string());
  return index;
}

}  // namespace

std::string IndexJson(const StudentSource& student, const DiffusersScheduler& scheduler, const fs::path& base) {
  const bool two = student.has_two_experts();
  const ordered_json transformer{"diffusers", "WanTransformer3DModel"};
  ordered_json index{{"_class_name", PipelineOf(student)},
                     {"_diffusers_version", kDiffusersVersion},
                     {"boundary_ratio", two ? ordered_json(student.boundary) : ordered_json(nullptr)},
                     {"expand_timesteps", student.config.model_type == "ti2v"},
                     {"scheduler", {"diffusers", scheduler.name}},
                     {"text_encoder", {"transformers", "UMT5EncoderModel"}},
                     {"tokenizer", {"transformers", "T5TokenizerFast"}},
                     {"transformer", transformer},
                     {"transformer_2", two ? transformer : ordered_json{nullptr, nullptr}},
                     {"vae", {"diffusers", "AutoencoderKLWan"}}};
  if (student.begins_with_picture) {
    const auto part = [&](const char* name) {
      return student.config.takes_clip() ? ordered_json{"transformers", name} : ordered_json{nullptr, nullptr};
    };
    index["image_encoder"] = part("CLIPVisionModel");
    index["image_processor"] = part("CLIPImageProcessor");
  }
  if (!base.empty()) {
    const ordered_json of_base = ReadIndex(base);
    for (const char* part : BaseParts(student.config)) {
      if (of_base.contains(part)) index[part] = of_base[part];
    }
  }
  return index.dump(2) + "\n";
}

std::vector<std::string> TakeBase(const WanConfig& config, const ExportOptions& options, const fs::path& folder) {
  std::vector<std::string> missing;
  for (const char* part : BaseParts(config)) {
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

}  // namespace sgmd
