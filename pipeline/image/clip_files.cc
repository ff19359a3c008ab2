#include "pipeline/image/clip_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

using nlohmann::json;

constexpr char kWhere[] = "take image_encoder/ of a -Diffusers repository, such as Wan2.1-I2V-14B-480P-Diffusers";

std::int64_t Size(const json& object, const char* key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end()) throw Error(StrCat("key \"", key, "\" is missing"), where, kWhere);
  if (!it->is_number_integer() || *it < 1) throw Error(StrCat("key \"", key, "\" must be a positive integer"), where);
  return it->get<std::int64_t>();
}

std::string Text(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

void CheckSizes(const ClipVisionConfig& c, const std::string& where) {
  if (c.hidden_size % c.num_attention_heads != 0) throw Error("hidden_size must be divisible by the heads", where);
  if (c.image_size % c.patch_size != 0) throw Error("image_size must be a multiple of patch_size", where);
  if (c.num_hidden_layers < 2) throw Error("num_hidden_layers must be at least 2: the last one is not run", where);
}

// A Linear, or a norm where `out` is 0.
void Add(const std::string& name, std::int64_t out, std::int64_t in, std::vector<ClipTensor>& tensors) {
  tensors.push_back({name + ".weight", out > 0 ? std::vector{out, in} : std::vector{in}});
  tensors.push_back({name + ".bias", {out > 0 ? out : in}});
}

}  // namespace

ClipVisionConfig ClipVisionConfig::FromFile(const std::filesystem::path& path) {
  const std::string where = path.string();
  const json object = json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) throw Error("not a JSON object", where);
  if (Text(object, "model_type") != "clip_vision_model") throw Error("not a CLIP vision encoder", where, kWhere);
  ClipVisionConfig c;
  for (const auto& [key, size] : {std::pair("hidden_size", &c.hidden_size),
                                  {"intermediate_size", &c.intermediate_size},
                                  {"num_hidden_layers", &c.num_hidden_layers},
                                  {"num_attention_heads", &c.num_attention_heads},
                                  {"image_size", &c.image_size},
                                  {"patch_size", &c.patch_size}})
    *size = Size(object, key, where);
  const auto eps = object.find("layer_norm_eps");
  if (eps != object.end() && eps->is_number()) c.layer_norm_eps = eps->get<double>();
  const std::string activation = Text(object, "hidden_act");
  c.quick_gelu = activation == "quick_gelu";
  if (!c.quick_gelu && activation != "gelu")
    throw Error(StrCat("\"hidden_act\" is \"", activation, "\", only gelu and quick_gelu are supported"), where);
  CheckSizes(c, where);
  return c;
}

std::vector<ClipTensor> ClipTensors(const ClipVisionConfig& c) {
  const std::int64_t d = c.hidden_size;
  std::vector<ClipTensor> tensors{{"embeddings.class_embedding", {d}},
                                  {"embeddings.patch_embedding.weight", {d, 3, c.patch_size, c.patch_size}},
                                  {"embeddings.position_embedding.weight", {c.tokens(), d}}};
  Add("pre_layrnorm", 0, d, tensors);
  for (std::int64_t n = 0; n + 1 < c.num_hidden_layers; ++n) {
    const std::string layer = StrCat("encoder.layers.", n, ".");
    Add(layer + "layer_norm1", 0, d, tensors);
    for (const char* part : {"q_proj", "k_proj", "v_proj", "out_proj"}) Add(layer + "self_attn." + part, d, d, tensors);
    Add(layer + "layer_norm2", 0, d, tensors);
    Add(layer + "mlp.fc1", c.intermediate_size, d, tensors);
    Add(layer + "mlp.fc2", d, c.intermediate_size, tensors);
  }
  return tensors;
}

const TensorView* FindClipTensor(const ShardedSafetensors& file, const std::string& name) {
  const TensorView* view = file.Find("vision_model." + name);
  return view != nullptr ? view : file.Find(name);
}

void CheckClipTensors(const ClipVisionConfig& config, const ShardedSafetensors& file) {
  std::string problems;
  for (const ClipTensor& tensor : ClipTensors(config)) {
    const TensorView* view = FindClipTensor(file, tensor.name);
    if (view == nullptr) {
      problems += "\n  missing: " + tensor.name;
    } else if (view->shape != tensor.shape) {
      problems += StrCat("\n  shape of ", view->name, " is not the config's");
    } else if (view->dtype != DType::kF32 && view->dtype != DType::kBF16 && view->dtype != DType::kF16) {
      problems += StrCat("\n  ", view->name, " is ", Name(view->dtype), ", not F32, BF16 or F16");
    }
  }
  if (problems.size() > 2000) problems = problems.substr(0, problems.rfind('\n', 2000)) + "\n  ...";
  if (!problems.empty())
    throw Error("not the CLIP vision encoder of its config.json:" + problems, file.path().string(), kWhere);
}

std::filesystem::path FindClipFolder(const std::filesystem::path& path) {
  for (const auto& folder : {path / "image_encoder", path}) {
    if (std::filesystem::exists(folder / "config.json")) return folder;
  }
  throw Error("no image encoder here", path.string(), kWhere);
}

}  // namespace sgmd
