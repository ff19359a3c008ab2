#include "pipeline/text/umt5_files.h"

#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

constexpr char kNoPickle[] =
    "take text_encoder/ of a -Diffusers repository (such as Wan2.1-T2V-1.3B-Diffusers), or convert the .pth to safetensors";
constexpr std::string_view kBlock = "encoder.block.";

// Tails behind "encoder.block.N." and "blocks.N.".
constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kBlockNames{{
    {"layer.0.layer_norm.weight", "norm1.weight"},
    {"layer.0.SelfAttention.q.weight", "attn.q.weight"},
    {"layer.0.SelfAttention.k.weight", "attn.k.weight"},
    {"layer.0.SelfAttention.v.weight", "attn.v.weight"},
    {"layer.0.SelfAttention.o.weight", "attn.o.weight"},
    {"layer.0.SelfAttention.relative_attention_bias.weight", "pos_embedding.embedding.weight"},
    {"layer.1.layer_norm.weight", "norm2.weight"},
    {"layer.1.DenseReluDense.wi_0.weight", "ffn.gate.0.weight"},
    {"layer.1.DenseReluDense.wi_1.weight", "ffn.fc1.weight"},
    {"layer.1.DenseReluDense.wo.weight", "ffn.fc2.weight"},
}};

std::vector<std::string> NamesInFiles(const std::string& name) {
  if (name == kUmt5Embedding) return {name, "encoder.embed_tokens.weight", Umt5WanName(name)};
  return {name, Umt5WanName(name)};
}

// Whole umT5 checkpoints and repackaged ones hold more than the encoder.
bool BelongsToAnother(std::string_view name) {
  return name.starts_with("decoder.") || name == "lm_head.weight" || name == "spiece_model";
}

bool IsPickle(const std::filesystem::path& path) {
  const auto extension = path.extension();
  return extension == ".pth" || extension == ".pt" || extension == ".bin" || extension == ".ckpt";
}

std::string PickledEncoder(const std::filesystem::path& folder) {
  std::string found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (IsPickle(entry.path()) && (found.empty() || name.starts_with("models_t5"))) found = name;
  }
  return found;
}

bool HasSafetensors(const std::filesystem::path& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") return true;
  }
  return false;
}

// Beside a file lies the config.json of whatever the folder is, often of the video model.
bool IsUmt5Config(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return false;
  const auto object = nlohmann::json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  return object.is_object() && object.contains("model_type") && object["model_type"] == "umt5";
}

}  // namespace

std::vector<Umt5Tensor> Umt5Tensors(const Umt5Config& c) {
  std::vector<Umt5Tensor> tensors{{kUmt5Embedding, {c.vocab_size, c.d_model}}};
  const std::int64_t inner = c.inner_dim();
  const std::array<std::vector<std::int64_t>, kBlockNames.size()> shapes{{{c.d_model},
                                                                          {inner, c.d_model},
                                                                          {inner, c.d_model},
                                                                          {inner, c.d_model},
                                                                          {c.d_model, inner},
                                                                          {c.relative_attention_num_buckets, c.num_heads},
                                                                          {c.d_model},
                                                                          {c.d_ff, c.d_model},
                                                                          {c.d_ff, c.d_model},
                                                                          {c.d_model, c.d_ff}}};
  for (std::int64_t n = 0; n < c.num_layers; ++n) {
    for (std::size_t i = 0; i < shapes.size(); ++i) tensors.push_back({StrCat(kBlock, n, ".", kBlockNames[i].first), shapes[i]});
  }
  tensors.push_back({"encoder.final_layer_norm.weight", {c.d_model}});
  return tensors;
}

std::string Umt5WanName(const std::string& name) {
  if (name == kUmt5Embedding) return "token_embedding.weight";
  if (name == "encoder.final_layer_norm.weight") return "norm.weight";
  if (name.starts_with(kBlock)) {
    const std::size_t dot = name.find('.', kBlock.size());
    for (const auto& [ours, wan] : kBlockNames) {
      if (dot != std::string::npos && std::string_view(name).substr(dot + 1) == ours) {
        return StrCat("blocks.", name.substr(kBlock.size(), dot - kBlock.size()), ".", wan);
      }
    }
  }
  throw Error("\"" + name + "\" is not a tensor of a umT5 encoder");
}

const TensorView* FindUmt5Tensor(const ShardedSafetensors& file, const std::string& name) {
  for (const std::string& candidate : NamesInFiles(name)) {
    if (const TensorView* view = file.Find(candidate)) return view;
  }
  return nullptr;
}

void CheckUmt5Tensors(const Umt5Config& config, const ShardedSafetensors& file) {
  std::string problems;
  std::set<std::string> known;
  for (const Umt5Tensor& tensor : Umt5Tensors(config)) {
    for (const std::string& name : NamesInFiles(tensor.name)) known.insert(name);
    const TensorView* view = FindUmt5Tensor(file, tensor.name);
    if (view == nullptr) {
      problems += StrCat("\n  missing: ", tensor.name, " (or ", Umt5WanName(tensor.name), ")");
      continue;
    }
    if (view->shape != tensor.shape) problems += StrCat("\n  shape of ", view->name, " is not the config's");
    if (view->dtype != DType::kF32 && view->dtype != DType::kBF16 && view->dtype != DType::kF16) {
      problems += StrCat("\n  ", view->name, " is ", Name(view->dtype), ", not F32, BF16 or F16");
    }
  }
  for (const TensorView& view : file.tensors()) {
    if (!known.contains(view.name) && !BelongsToAnother(view.name)) problems += StrCat("\n  unexpected: ", view.name);
  }
  if (problems.size() > 2000) problems = problems.substr(0, problems.rfind('\n', 2000)) + "\n  ...";
  if (problems.empty()) return;
  throw Error("not the umT5 encoder of its config.json:" + problems, file.path().string(),
              "without a umT5 config.json beside the file it is taken for umT5-XXL");
}

Umt5Files FindUmt5Files(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) throw Error("no such text encoder", path.string());
  const bool is_folder = std::filesystem::is_directory(path);
  const auto config = (is_folder ? path : path.parent_path()) / "config.json";
  const bool is_umt5 = IsUmt5Config(config);
  if (!is_folder) {
    if (IsPickle(path)) throw Error("a pickled checkpoint cannot be read", path.string(), kNoPickle);
    return {path, is_umt5 ? Umt5Config::FromFile(config) : Umt5Config{}};
  }
  if (std::filesystem::is_directory(path / "text_encoder")) return FindUmt5Files(path / "text_encoder");
  if (is_umt5 && HasSafetensors(path)) return {path, Umt5Config::FromFile(config)};
  if (const std::string pickle = PickledEncoder(path); !pickle.empty()) {
    throw Error("the text encoder here is " + pickle + ", a pickled checkpoint, which cannot be read", path.string(), kNoPickle);
  }
  if (!HasSafetensors(path)) throw Error("no text encoder here", path.string(), kNoPickle);
  return {path, std::filesystem::exists(config) ? Umt5Config::FromFile(config) : Umt5Config{}};
}

}  // namespace sgmd
