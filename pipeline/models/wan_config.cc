#include "pipeline/models/wan_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/model_folder.h"

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

constexpr char kSupported[] =
    "supported are Wan2.1-T2V-1.3B and -14B, Wan2.1-I2V-14B, Wan2.2-T2V-A14B and -I2V-A14B, Wan2.2-TI2V-5B";
constexpr char kDiffusersClass[] = "WanTransformer3DModel";
constexpr std::int64_t kClipWidth = 1280;  // of ViT-H/14

// As ReadSize, but a null is as good as no key.
void ReadSizeOrNull(const json& object, const char* key, const std::string& where, std::int64_t* out) {
  if (object.contains(key) && !object[key].is_null()) ReadSize(object, key, true, where, out);
}

// Diffusers gives the heads' size instead of the model's.
WanConfig ReadDiffusers(const json& object, const std::string& where) {
  WanConfig config;
  std::int64_t head_dim = 0;
  ReadSize(object, "in_channels", true, where, &config.in_dim);
  ReadSize(object, "out_channels", true, where, &config.out_dim);
  ReadSize(object, "num_attention_heads", true, where, &config.num_heads);
  ReadSize(object, "attention_head_dim", true, where, &head_dim);
  config.dim = config.num_heads * head_dim;
  if (config.in_dim == 48) config.model_type = "ti2v";  // of which Diffusers has no note but the channels of its VAE
  if (config.takes_image()) config.model_type = "i2v";
  ReadSizeOrNull(object, "image_dim", where, &config.image_dim);
  std::int64_t added = 0;
  ReadSizeOrNull(object, "added_kv_proj_dim", where, &added);
  if (added != (config.takes_clip() ? config.dim : 0))
    throw Error("\"added_kv_proj_dim\" must be the model's width with \"image_dim\", and null without", where);
  return config;
}

// The files of Wan2.1 and of the experts of Wan2.2 are alike, and only the former have CLIP tokens (wan_facts §1.1).
std::int64_t ImageDimOfOriginal(const WanConfig& config, const std::filesystem::path& path) {
  const std::string folder = std::filesystem::absolute(path).parent_path().filename().string();
  const bool expert = folder == kHighNoiseExpert || folder == kLowNoiseExpert;
  return config.takes_image() && !expert ? kClipWidth : 0;
}

WanConfig ReadOriginal(const json& object, const std::string& where) {
  WanConfig config;
  ReadSize(object, "in_dim", true, where, &config.in_dim);
  ReadSize(object, "out_dim", true, where, &config.out_dim);
  ReadSize(object, "dim", true, where, &config.dim);
  ReadSize(object, "num_heads", true, where, &config.num_heads);
  config.model_type = object.value("model_type", config.model_type);
  config.image_dim = ImageDimOfOriginal(config, where);
  ReadSizeOrNull(object, "image_dim", where, &config.image_dim);
  return config;
}

// What would need tensors or computations that the transformer does not have.
void RefuseOtherModels(const json& object, const std::string& where) {
  const auto refuse = [&](const std::string& what) { throw Error(what + " is not supported", where, kSupported); };
  const auto text = [&](const char* key, const char* otherwise) {
    const auto it = object.find(key);
    return it != object.end() && it->is_string() ? it->get<std::string>() : std::string(otherwise);
  };
  const std::string type = text("model_type", "t2v"), made_by = text("_class_name", "WanModel");
  if (type != "t2v" && type != "ti2v" && type != "i2v") refuse(StrCat("model_type \"", type, "\""));
  if (made_by != "WanModel" && made_by != kDiffusersClass) refuse(StrCat("the class ", made_by));
  for (const char* key : {"pos_embed_seq_len", "vace_layers"}) {
    if (object.contains(key) && !object[key].is_null())
      refuse(StrCat("conditioning on more than a first frame (\"", key, "\")"));
  }
  if (object.value("cross_attn_norm", json(true)) != json(true)) refuse("\"cross_attn_norm\" other than true");
  const json qk_norm = object.value("qk_norm", json(true));
  const bool over_all_heads = qk_norm == json(true) || qk_norm == json("rms_norm_across_heads");
  if (!over_all_heads) refuse("\"qk_norm\" other than over all heads");
  if (object.contains("window_size") && object["window_size"] != json::array({-1, -1})) refuse("attention in a window");
}

}  // namespace

WanConfig WanConfig::FromFile(const std::filesystem::path& path) {
  const std::string where = path.string();
  const json object = json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) throw Error("not a JSON object", where);
  RefuseOtherModels(object, where);
  const bool diffusers = object.contains("num_attention_heads");
  WanConfig config = diffusers ? ReadDiffusers(object, where) : ReadOriginal(object, where);
  ReadSize(object, "ffn_dim", true, where, &config.ffn_dim);
  ReadSize(object, "freq_dim", true, where, &config.freq_dim);
  ReadSize(object, "num_layers", true, where, &config.num_layers);
  ReadSize(object, "text_len", !diffusers, where, &config.text_len);
  ReadSize(object, "text_dim", false, where, &config.text_dim);
  if (const auto patch = object.find("patch_size"); patch != object.end()) {
    const bool whole = patch->is_array() && patch->size() == 3 &&
                       std::all_of(patch->begin(), patch->end(), [](const json& p) { return p.is_number_integer(); });
    if (!whole) throw Error("key \"patch_size\" must be three integers", where);
    config.patch_size = patch->get<std::array<std::int64_t, 3>>();
  }
  if (const auto eps = object.find("eps"); eps != object.end()) {
    if (!eps->is_number()) throw Error("key \"eps\" must be a number", where);
    config.eps = eps->get<double>();
  }
  config.Validate(where);
  return config;
}

std::string WanConfig::ToJson() const {
  nlohmann::ordered_json object{{"_class_name", "WanModel"},
                                {"model_type", model_type},
                                {"text_len", text_len},
                                {"in_dim", in_dim},
                                {"dim", dim},
                                {"ffn_dim", ffn_dim},
                                {"freq_dim", freq_dim},
                                {"out_dim", out_dim},
                                {"num_heads", num_heads},
                                {"num_layers", num_layers},
                                {"eps", eps},
                                {"text_dim", text_dim},
                                {"patch_size", patch_size}};
  if (takes_image()) object["image_dim"] = image_dim;
  return object.dump(2) + "\n";
}

std::string WanConfig::ToDiffusersJson() const {
  const auto if_clip = [&](std::int64_t size) {
    return takes_clip() ? nlohmann::ordered_json(size) : nlohmann::ordered_json(nullptr);
  };
  nlohmann::ordered_json object{{"_class_name", kDiffusersClass},
                                {"added_kv_proj_dim", if_clip(dim)},
                                {"attention_head_dim", head_dim()},
                                {"cross_attn_norm", true},
                                {"eps", eps},
                                {"ffn_dim", ffn_dim},
                                {"freq_dim", freq_dim},
                                {"image_dim", if_clip(image_dim)},
                                {"in_channels", in_dim},
                                {"num_attention_heads", num_heads},
                                {"num_layers", num_layers},
                                {"out_channels", out_dim},
                                {"patch_size", patch_size},
                                {"pos_embed_seq_len", nullptr},
                                {"qk_norm", "rms_norm_across_heads"},
                                {"rope_max_seq_len", 1024},
                                {"text_dim", text_dim}};
  if (text_len != WanConfig().text_len) object["text_len"] = text_len;
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
  require(image_dim >= 0 && (takes_image() || !takes_clip()), "image_dim is for models that take a first frame");
  if (in_dim == out_dim || in_dim == out_dim + kMaskChannels + out_dim) return;
  throw Error(StrCat(in_dim, " channels in and ", out_dim, " out: text-to-video has as many in, image-to-video ",
                     out_dim + kMaskChannels + out_dim),
              where, kSupported);
}

}  // namespace sgmd
