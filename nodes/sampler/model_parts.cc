#include "nodes/sampler/model_parts.h"

#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

using std::filesystem::path;

path IfExists(const path& candidate) { return std::filesystem::exists(candidate) ? candidate : path(); }

// A number in a JSON file; none when the file or the key is missing or null.
std::optional<double> NumberIn(const path& file, const char* key) {
  if (!std::filesystem::exists(file)) return std::nullopt;
  const auto object = nlohmann::json::parse(ReadFile(file), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) throw Error("not a JSON object", file.string());
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return std::nullopt;
  if (!it->is_number()) throw Error(StrCat("key \"", key, "\" must be a number"), file.string());
  return it->get<double>();
}

std::vector<Expert> FindExperts(const path& root) {
  constexpr double kTextToVideoBoundary = 0.875;
  if (std::filesystem::is_regular_file(root) || std::filesystem::exists(root / "config.json")) return {{root, 0}};
  if (std::filesystem::exists(root / "high_noise_model")) {
    return {{root / "high_noise_model", 1000 * kTextToVideoBoundary}, {root / "low_noise_model", 0}};
  }
  if (!std::filesystem::exists(root / "transformer")) {
    throw Error("no model in this folder", root.string(),
                "a transformer folder has config.json; a Diffusers pipeline has transformer/");
  }
  if (!std::filesystem::exists(root / "transformer_2")) return {{root / "transformer", 0}};
  const auto boundary = NumberIn(root / "model_index.json", "boundary_ratio");
  if (!boundary) {
    throw Error("two transformers, and no boundary_ratio that says which noise levels are whose",
                (root / "model_index.json").string());
  }
  return {{root / "transformer", 1000 * *boundary}, {root / "transformer_2", 0}};
}

}  // namespace

ModelParts ModelParts::Inspect(const path& root) {
  ModelParts parts;
  parts.experts = FindExperts(root);
  parts.vae = IfExists(root / "vae");
  parts.text_encoder = IfExists(root / "text_encoder");
  parts.tokenizer = IfExists(root / "tokenizer");
  parts.shift = NumberIn(root / "scheduler" / "scheduler_config.json", "flow_shift");
  return parts;
}

}  // namespace sgmd
