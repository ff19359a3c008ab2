#include "pipeline/text/umt5_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

using nlohmann::json;

std::int64_t Size(const json& object, const char* key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end()) throw Error(StrCat("key \"", key, "\" is missing"), where, "the config.json of a umT5 text_encoder/ has it");
  if (!it->is_number_integer()) throw Error(StrCat("key \"", key, "\" must be an integer"), where);
  return it->get<std::int64_t>();
}

void RequireText(const json& object, const char* key, const std::string& value, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || *it == value) return;
  throw Error(StrCat("key \"", key, "\" is ", it->dump(), ", only \"", value, "\" is supported"), where,
              "Wan models are conditioned on umT5 (google/umt5-xxl)");
}

}  // namespace

Umt5Config Umt5Config::FromFile(const std::filesystem::path& path) {
  const std::string where = path.string();
  const json object = json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) throw Error("not a JSON object", where);
  RequireText(object, "model_type", "umt5", where);
  RequireText(object, "feed_forward_proj", "gated-gelu", where);
  Umt5Config c;
  c.vocab_size = Size(object, "vocab_size", where);
  c.d_model = Size(object, "d_model", where);
  c.d_kv = Size(object, "d_kv", where);
  c.d_ff = Size(object, "d_ff", where);
  c.num_layers = Size(object, "num_layers", where);
  c.num_heads = Size(object, "num_heads", where);
  c.relative_attention_num_buckets = Size(object, "relative_attention_num_buckets", where);
  c.relative_attention_max_distance = Size(object, "relative_attention_max_distance", where);
  if (const auto eps = object.find("layer_norm_epsilon"); eps != object.end()) {
    if (!eps->is_number()) throw Error("key \"layer_norm_epsilon\" must be a number", where);
    c.layer_norm_epsilon = eps->get<double>();
  }
  c.Validate(where);
  return c;
}

void Umt5Config::Validate(const std::string& where) const {
  const auto require = [&](bool holds, const char* what) {
    if (!holds) throw Error(what, where);
  };
  require(std::min({vocab_size, d_model, d_kv, d_ff, num_layers, num_heads, relative_attention_num_buckets}) > 0,
          "every size must be positive");
  require(layer_norm_epsilon >= 0, "layer_norm_epsilon must not be negative");
  require(relative_attention_num_buckets % 4 == 0, "relative_attention_num_buckets must be divisible by 4");
  require(relative_attention_max_distance > relative_attention_num_buckets / 4,
          "relative_attention_max_distance must be over a quarter of relative_attention_num_buckets");
}

}  // namespace sgmd
