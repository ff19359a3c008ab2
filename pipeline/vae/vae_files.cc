// Finding and reading the file of a VAE.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/vae/vae_names.h"
#include "pipeline/vae/wan_vae.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

bool HasVaeInName(const fs::path& path) {
  std::string name = path.filename().string();
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name.find("vae") != std::string::npos;
}

// Original repositories keep the transformer's config.json beside the VAE's weights: only a VAE's own is taken.
bool IsVaeConfig(const fs::path& path) {
  if (!fs::exists(path)) return false;
  const auto json = nlohmann::json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  return json.is_object() && json.value("_class_name", std::string()) == "AutoencoderKLWan";
}

[[noreturn]] void RefusePickle(const fs::path& path) {
  throw Error("a .pth file is a Python pickle, which is not read", path.string(),
              "take the vae/ folder of the same model's -Diffusers repository: the same weights as safetensors");
}

// What ShardedSafetensors can open: `path` itself, its vae/ folder, or the one VAE among other files.
fs::path FindWeights(const fs::path& path) {
  if (!fs::exists(path)) throw Error("no such file or folder", path.string(), "give the vae/ folder of a -Diffusers repository");
  if (path.extension() == ".pth" || path.extension() == ".pt") RefusePickle(path);
  if (!fs::is_directory(path) || IsVaeConfig(path / "config.json")) return path;
  if (fs::is_directory(path / "vae")) return path / "vae";
  std::vector<fs::path> named;
  std::optional<fs::path> pickle;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (!HasVaeInName(entry.path())) continue;
    if (entry.path().extension() == ".safetensors") named.push_back(entry.path());
    if (entry.path().extension() == ".pth") pickle = entry.path();
  }
  if (named.size() == 1) return named.front();
  if (named.empty() && pickle) RefusePickle(*pickle);
  return path;
}

// The tensors of `file` by the names of `model`, whichever set of names it has. Throws Error naming every one that does not fit.
void Fill(const NamedTensors& parameters, const VaeNames& names, const ShardedSafetensors& file) {
  const bool original = file.Find("conv1.weight") != nullptr;
  std::string problems;
  std::set<std::string> wanted;
  std::vector<const TensorView*> views;
  for (const auto& [name, tensor] : parameters) {
    const std::string in_file = original ? names.Original(name) : name;
    wanted.insert(in_file);
    views.push_back(file.Find(in_file));
    if (views.back() == nullptr) {
      problems += "\n  missing: " + in_file;
    } else if (at::IntArrayRef(views.back()->shape) != tensor.sizes()) {
      problems += StrCat("\n  shape of ", in_file, ": file ", at::IntArrayRef(views.back()->shape), ", model ", tensor.sizes());
    }
  }
  for (const TensorView& view : file.tensors()) {
    if (!wanted.contains(view.name)) problems += "\n  unexpected: " + view.name;
  }
  if (!problems.empty()) {
    throw Error("the file does not fit the VAE:" + problems, file.path().string(), "check that config.json beside the file belongs to it");
  }
  const c10::NoGradGuard no_grad;
  for (std::size_t i = 0; i < views.size(); ++i) parameters[i].second.copy_(CopyToTensor(*views[i]));
}

}  // namespace

WanVae WanVae::Load(const fs::path& folder_or_file, at::Device device) {
  const ShardedSafetensors file = ShardedSafetensors::Open(FindWeights(folder_or_file));
  const fs::path config_path = file.path().parent_path() / "config.json";
  const VaeConfig config = IsVaeConfig(config_path) ? VaeConfig::FromFile(config_path) : VaeConfig::FromTensors(file);
  WanVae vae(config, device);
  Fill(vae.parameters(), VaeNames(config), file);
  vae.source_ = file.path();
  return vae;
}

}  // namespace sgmd
