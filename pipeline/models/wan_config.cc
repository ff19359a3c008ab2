#include "pipeline/models/wan_config.h"

#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

using nlohmann::json;

void ReadSize(const json& object, const char* key, bool required, const std::string& where, std::int64_t* out) {
  const auto it = object.find(key);
  if (it == object.end()) {
    if (required) throw Error(StrCat("key \"", key, "\" is missing"), where);
    return;
  }
  if (!it->is_number_integer()) throw Error(StrCat("key \"", key, "\" must be an integer"), where);
  *out = it->get<std::int64_t>();
}

}  // namespace

WanConfig WanConfig::FromFile(const std::filesystem::path& path) {
  const std::string where = path.string();
  const json object = json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) throw Error("not a JSON object", where);
  const std::string type = object.value("model_type", std::string("t2v"));
  if (type != "t2v" && type != "ti2v") {  // ti2v from text alone is t2v: the same tensors and the same forward pass
    throw Error(StrCat("model_type \"", type, "\" is not supported"), where, "text-to-video (\"t2v\", \"ti2v\") models are");
  }
  WanConfig config;
  ReadSize(object, "in_dim", true, where, &config.in_dim);
  ReadSize(object, "out_dim", true, where, &config.out_dim);
  ReadSize(object, "dim", true, where, &config.dim);
  ReadSize(object, "ffn_dim", true, where, &config.ffn_dim);
  ReadSize(object, "freq_dim", true, where, &config.freq_dim);
  ReadSize(object, "num_heads", true, where, &config.num_heads);
  ReadSize(object, "num_layers", true, where, &config.num_layers);
  ReadSize(object, "text_len", true, where, &config.text_len);
  ReadSize(object, "text_dim", false, where, &config.text_dim);
  if (const auto patch = object.find("patch_size"); patch != object.end()) {
    if (!patch->is_array() || patch->size() != 3) throw Error("key \"patch_size\" must be three integers", where);
    config.patch_size = patch->get<std::array<std::int64_t, 3>>();
  }
  if (const auto eps = object.find("eps"); eps != object.end()) config.eps = eps->get<double>();
  config.Validate(where);
  return config;
}

std::string WanConfig::ToJson() const {
  const nlohmann::ordered_json object{
      {"_class_name", "WanModel"}, {"model_type", "t2v"}, {"text_len", text_len}, {"in_dim", in_dim},
      {"dim", dim},           {"ffn_dim", ffn_dim},   {"freq_dim", freq_dim},   {"out_dim", out_dim},
      {"num_heads", num_heads}, {"num_layers", num_layers}, {"eps", eps},       {"text_dim", text_dim},
      {"patch_size", patch_size}};
  return object.dump(2) + "\n";
}

void WanConfig::Validate(const std::string& where) const {
  const auto require = [&](bool holds, const char* what) {
    if (!holds) throw Error(what, where);
  };
  require(std::min({in_dim, out_dim, dim, ffn_dim, freq_dim, text_dim, text_len, num_heads, num_layers}) > 0,
          "every size must be positive");
  require(std::min({patch_size[0], patch_size[1], patch_size[2]}) > 0, "patch_size must be positive");
  require(dim % num_heads == 0, "dim must be divisible by num_heads");
  require(head_dim() % 2 == 0 && head_dim() >= 6, "the head size dim/num_heads must be even and at least 6");
  require(freq_dim % 2 == 0, "freq_dim must be even");
}

}  // namespace sgmd
