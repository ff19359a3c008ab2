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
constexpr char kLayouts[] =
    "a model is a folder with config.json and *.safetensors, a Diffusers folder, or a .safetensors file";
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

// What two experts are called, in original and in Diffusers folders.
struct ExpertNames {
  const char *high, *low;
};
constexpr ExpertNames kExpertNames[] = {{kHighNoiseExpert, kLowNoiseExpert}, {"transformer", "transformer_2"}};
constexpr double kTextToVideoBoundary = 0.875, kImageToVideoBoundary = 0.9;  // wan_facts §1.1

// boundary_ratio of a Diffusers pipeline; 0 where it has none.
double BoundaryOf(const fs::path& folder) {
  const fs::path index = folder / "model_index.json";
  if (!fs::exists(index)) return 0;
  const auto json = nlohmann::json::parse(ReadFile(index), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw Error("not a JSON object", index.string());
  const auto it = json.find("boundary_ratio");
  if (it == json.end() || it->is_null()) return 0;
  if (!it->is_number() || !(*it > 0) || !(*it < 1))
    throw Error("boundary_ratio is no number between 0 and 1", index.string());
  return it->get<double>();
}

// Of an original folder, whose files do not say it.
double PublishedBoundary(const fs::path& expert) {
  const auto json = nlohmann::json::parse(ReadFile(FindModelConfig(expert)), nullptr, /*allow_exceptions=*/false);
  const bool image = json.is_object() && json.contains("model_type") && json["model_type"] == "i2v";
  return image ? kImageToVideoBoundary : kTextToVideoBoundary;
}

bool HasExperts(const fs::path& folder) {
  return fs::exists(folder / kHighNoiseExpert) || fs::exists(folder / kLowNoiseExpert) ||
         fs::exists(folder / "transformer_2") || BoundaryOf(folder) > 0;
}

fs::path WithoutSlash(const fs::path& path) { return path.filename().empty() ? path.parent_path() : path; }

// The folder in which config.json lies.
fs::path FolderOf(const fs::path& model) {
  if (!fs::exists(model)) throw Error("no such model", model.string(), kLayouts);
  if (!fs::is_directory(model)) {
    if (EndsIn(model, kFileEnd) || EndsIn(model, kIndexEnd))
      return model.parent_path().empty() ? "." : model.parent_path();
    if (IsPickle(model)) throw Error("the weights are a Python pickle, not safetensors", model.string(), kPickles);
    throw Error("not a model", model.string(), kLayouts);
  }
  const fs::path folder = WithoutSlash(model);
  if (HasExperts(folder)) {
    throw Error("a model of two experts, one for high and one for low noise, where one transformer is asked for",
                folder.string(), "name one of the two folders in it");
  }
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
    throw Error(StrCat(found.size(), " files end in ", end, " and none is ", usual), folder.string(),
                "name the file itself");
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

std::vector<Expert> FindExperts(const fs::path& model) {
  const fs::path folder = WithoutSlash(model);
  const fs::path whole = fs::absolute(folder).lexically_normal();
  for (const auto& [high, low] : kExpertNames) {
    const fs::path other = whole.parent_path() / (whole.filename() == high ? low : high);
    if ((whole.filename() == high || whole.filename() == low) && fs::exists(other)) {
      throw Error("one of two experts: it is wrong for the noise levels of the other", model.string(),
                  "name the folder that both are in");
    }
  }
  if (!fs::is_directory(folder) || !HasExperts(folder)) {
    FindModelConfig(model);
    return {{"", model, 0}};
  }
  const auto& [high, low] = kExpertNames[fs::exists(folder / kHighNoiseExpert) ? 0 : 1];
  const double boundary = high == kExpertNames[0].high ? PublishedBoundary(folder / high) : BoundaryOf(folder);
  if (boundary == 0) {
    throw Error("two transformers, and no boundary_ratio that says which noise levels are whose",
                (folder / "model_index.json").string());
  }
  for (const char* part : {high, low}) FindModelConfig(folder / part);
  return {{kHighNoiseExpert, folder / high, boundary}, {kLowNoiseExpert, folder / low, 0}};
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
