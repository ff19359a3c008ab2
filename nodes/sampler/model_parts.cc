#include "nodes/sampler/model_parts.h"

#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/models/role_experts.h"

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

}  // namespace

ModelParts ModelParts::Inspect(const path& root, std::optional<double> boundary) {
  ModelParts parts;
  parts.experts = FindExperts(root, boundary.value_or(0));
  if (boundary && parts.experts.size() == 1) throw Error("one transformer has no boundary", root.string());
  parts.vae = IfExists(root / "vae");
  parts.text_encoder = IfExists(root / "text_encoder");
  parts.tokenizer = IfExists(root / "tokenizer");
  parts.image_encoder = IfExists(root / "image_encoder");
  parts.shift = NumberIn(root / "scheduler" / "scheduler_config.json", "flow_shift");
  return parts;
}

}  // namespace sgmd
