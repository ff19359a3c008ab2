#include "common/storage/model_folder.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFileEnd = ".safetensors", kIndexEnd = ".safetensors.index.json";
constexpr std::string_view kUsualFile = "diffusion_pytorch_model.safetensors", kPromptBank = "prompt_bank.safetensors";
constexpr char kLayouts[] = "a model is a folder with config.json and *.safetensors, a Diffusers folder, or a .safetensors file";
constexpr char kPickles[] =
    "take the -Diffusers repository of the same model, or convert once in Python: "
    "from safetensors.torch import save_file; save_file(torch.load(old, map_location='cpu', weights_only=True), new)";

bool EndsIn(const fs::path& path, std::string_view end) { return path.filename().string().ends_with(end); }

bool IsPickle(const fs::path& path) {
  return std::ranges::any_of(std::initializer_list<std::string_view>{".pth", ".bin", ".ckpt", ".pt"},
                             [&](std::string_view end) { return EndsIn(path, end); });
}

std::vector<fs::path> FilesOf(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.is_directory()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// Two experts, each for a part of the noise levels. One alone would load, and be wrong for the other part.
void RefuseExperts(const fs::path& folder) {
  const fs::path name = folder.filename();
  bool experts = name == "high_noise_model" || name == "low_noise_model" || name == "transformer_2";
  for (const char* part : {"high_noise_model", "low_noise_model", "transformer_2"}) experts |= fs::exists(folder / part);
  if (name == "transformer") experts |= fs::exists(folder.parent_path() / "transformer_2");
  if (const fs::path index = folder / "model_index.json"; fs::exists(index)) {
    const auto json = nlohmann::json::parse(ReadFile(index), nullptr, /*allow_exceptions=*/false);
    experts |= json.is_object() && json.contains("boundary_ratio") && json["boundary_ratio"].is_number();
  }
  if (experts) {
    throw Error("Wan2.2-A14B is two models, one for high and one for low noise, and is not supported", folder.string(),
                "supported are text-to-video models of one transformer: Wan2.1-T2V-1.3B, Wan2.1-T2V-14B, Wan2.2-TI2V-5B");
  }
}

// The folder in which config.json lies; RefuseExperts on the way.
fs::path FolderOf(const fs::path& model) {
  if (!fs::exists(model)) throw Error("no such model", model.string(), kLayouts);
  if (!fs::is_directory(model)) {
    if (EndsIn(model, kFileEnd) || EndsIn(model, kIndexEnd)) return model.parent_path().empty() ? "." : model.parent_path();
    if (IsPickle(model)) throw Error("the weights are a Python pickle, not safetensors", model.string(), kPickles);
    throw Error("not a model", model.string(), kLayouts);
  }
  const fs::path folder = model.filename().empty() ? model.parent_path() : model;  // a slash at the end
  RefuseExperts(fs::absolute(folder).lexically_normal());
  return fs::exists(folder / "transformer" / "config.json") ? FolderOf(folder / "transformer") : folder;
}

fs::path ChooseWeights(const fs::path& folder, const std::vector<fs::path>& files) {
  for (const std::string_view end : {kIndexEnd, kFileEnd}) {
    std::vector<fs::path> found;
    for (const fs::path& file : files) {
      if (EndsIn(file, end) && file.filename() != kPromptBank) found.push_back(file);
    }
    if (found.empty()) continue;
    if (found.size() == 1) return found.front();
    const std::string usual = std::string(kUsualFile.substr(0, kUsualFile.size() - kFileEnd.size())) + std::string(end);
    if (fs::exists(folder / usual)) return folder / usual;
    throw Error(StrCat(found.size(), " files end in ", end, " and none is ", usual), folder.string(), "name the file itself");
  }
  if (std::any_of(files.begin(), files.end(), IsPickle)) {
    throw Error("the weights are here only as Python pickles, not as safetensors", folder.string(), kPickles);
  }
  throw Error("no model weights", folder.string(), kLayouts);
}

}  // namespace

fs::path FindModelConfig(const fs::path& model) {
  const fs::path config = FolderOf(model) / "config.json";
  if (!fs::exists(config)) {
    throw Error("no model: config.json is missing", config.string(),
                fs::is_directory(model) ? kLayouts : "copy the config.json of the model's repository beside the file");
  }
  return config;
}

ModelFiles FindModel(const fs::path& model) {
  ModelFiles found;
  found.config = FindModelConfig(model);
  if (!fs::is_directory(model) && EndsIn(model, kFileEnd)) {
    found.weights = model;
    found.identity = {found.config, model};
  } else {
    const fs::path folder = found.config.parent_path();
    const std::vector<fs::path> files = FilesOf(folder);
    found.weights = fs::is_directory(model) ? ChooseWeights(folder, files) : model;
    for (const fs::path& file : files) {
      const bool weights = (EndsIn(file, kFileEnd) || EndsIn(file, kIndexEnd)) && file.filename() != kPromptBank;
      if (weights || file.filename() == "config.json") found.identity.push_back(file);
    }
  }
  std::sort(found.identity.begin(), found.identity.end());
  return found;
}

}  // namespace sgmd
