#include "pipeline/models/lora.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>

#include "common/error/error.h"
#include "pipeline/flow/random.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

constexpr std::string_view kPrefix = "diffusion_model.";
constexpr std::string_view kAlpha = ".alpha";

std::string Without(std::string_view tail, const std::string& name) {
  return name.substr(0, name.size() - tail.size());
}

void AddToWeights(WanTransformer& model, const NamedTensors& adapters, double scale) {
  if (!model.adapters().empty()) throw Error("adapters are merged into a model without adapters");
  c10::NoGradGuard no_grad;
  const auto pairs = LoraPairs(adapters);
  RequirePlaces(pairs, model.parameters());  // all checked before any is changed
  std::map<std::string, at::Tensor> weights(model.parameters().begin(), model.parameters().end());
  for (const auto& [linear, pair] : pairs) {
    at::Tensor& weight = weights.at(linear + ".weight");
    weight.copy_(MergedWeight(weight, pair, scale));
  }
}

}  // namespace

bool LoraConfig::Adapts(std::string_view linear) const {
  return std::any_of(targets.begin(), targets.end(),
                     [&](const std::string& target) { return linear == target || linear.ends_with("." + target); });
}

LoraConfig LoraOf(const Experiment& experiment) {
  return {experiment.lora.rank, experiment.lora.alpha, experiment.lora.targets};
}

void DrawAdapters(const NamedTensors& adapters, std::uint64_t seed) {
  c10::NoGradGuard no_grad;
  for (std::size_t i = 0; i < adapters.size(); ++i) {
    const auto& [name, tensor] = adapters[i];
    if (tensor.is_meta()) return;
    if (!name.ends_with(kLoraDown))
      tensor.zero_();
    else
      tensor.copy_(Noise(tensor.sizes(), SeedFor(seed, 0, static_cast<std::int64_t>(i), "lora")) / tensor.size(0));
  }
}

std::map<std::string, LoraPair> LoraPairs(const NamedTensors& adapters) {
  std::map<std::string, LoraPair> pairs;
  for (const auto& [name, tensor] : adapters) {
    if (name.ends_with(kLoraDown))
      pairs[Without(kLoraDown, name)].down = tensor;
    else if (name.ends_with(kLoraUp))
      pairs[Without(kLoraUp, name)].up = tensor;
    else
      throw Error("not an adapter: " + name);
  }
  for (const auto& [linear, pair] : pairs) {
    if (!pair.down.defined() || !pair.up.defined()) {
      throw Error(StrCat(linear, " has no ", pair.down.defined() ? kLoraUp : kLoraDown));
    }
    if (pair.down.dim() != 2 || pair.up.dim() != 2 || pair.up.size(1) != pair.down.size(0)) {
      throw Error(
          StrCat("adapter of ", linear, ": down ", pair.down.sizes(), " and up ", pair.up.sizes(), " do not fit"), {},
          "down is [r, in], up is [out, r]");
    }
  }
  return pairs;
}

void RequirePlaces(const std::map<std::string, LoraPair>& pairs, const NamedTensors& parameters) {
  const std::map<std::string, at::Tensor> weights(parameters.begin(), parameters.end());
  for (const auto& [linear, pair] : pairs) {
    const auto weight = weights.find(linear + ".weight");
    if (weight == weights.end()) throw Error("the model has no Linear " + linear);
    if (weight->second.size(0) != pair.up.size(0) || weight->second.size(1) != pair.down.size(1)) {
      throw Error(StrCat("adapter of ", linear, " is for [", pair.up.size(0), ", ", pair.down.size(1),
                         "], the weight is ", weight->second.sizes()));
    }
  }
}

at::Tensor MergedWeight(const at::Tensor& weight, const LoraPair& pair, double scale) {
  const at::ScalarType wide = weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto on_device = [&](const at::Tensor& t) { return t.detach().to(weight.device(), wide); };
  return at::addmm(on_device(weight), on_device(pair.up), on_device(pair.down), 1, scale);
}

void MergeLora(WanTransformer& model, const NamedTensors& adapters, double scale) {
  AddToWeights(model, adapters, scale);
}

void UnmergeLora(WanTransformer& model, const NamedTensors& adapters, double scale) {
  AddToWeights(model, adapters, -scale);
}

NamedTensors ReadAdapters(const ShardedSafetensors& file) {
  NamedTensors adapters;
  for (const TensorView& view : file.tensors()) {
    const std::string name(view.name);
    if (name.ends_with(kLoraDown) || name.ends_with(kLoraUp)) adapters.emplace_back(name, CopyToTensor(view));
  }
  if (adapters.empty()) {
    throw Error("no adapters in the file", file.path().string(),
                "only runs with [lora] rank > 0 have checkpoints of adapters");
  }
  return adapters;
}

NamedTensors LoraTensors(const NamedTensors& adapters, double scale, at::ScalarType dtype) {
  NamedTensors out;
  for (const auto& [linear, pair] : LoraPairs(adapters)) {
    const std::string key = std::string(kPrefix) + linear;
    out.emplace_back(key + kLoraDown, pair.down.detach().to(dtype));
    out.emplace_back(key + kLoraUp, (pair.up.detach() * scale).to(dtype));
  }
  return out;
}

void WriteLora(const std::filesystem::path& path, const NamedTensors& adapters, double scale, Metadata metadata,
               at::ScalarType dtype) {
  SaveTensors(path, LoraTensors(adapters, scale, dtype), std::move(metadata));
}

NamedTensors ReadLora(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::Open(path);
  NamedTensors found;
  std::map<std::string, double> alphas;
  for (const TensorView& view : file.tensors()) {
    std::string name(view.name);
    if (name.starts_with(kPrefix)) name = name.substr(kPrefix.size());
    if (name.ends_with(kAlpha)) {
      alphas[Without(kAlpha, name)] = CopyToTensor(view).to(at::kDouble).item<double>();
    } else if (name.ends_with(kLoraDown) || name.ends_with(kLoraUp)) {
      found.emplace_back(name, CopyToTensor(view).to(at::kFloat));
    } else {
      throw Error("no adapter of a style that is read here: " + std::string(view.name), path.string(),
                  "read are diffusion_model.blocks.N.<linear>.lora_down.weight, .lora_up.weight and .alpha");
    }
  }
  NamedTensors adapters;
  for (const auto& [linear, pair] : LoraPairs(found)) {
    const auto alpha = alphas.find(linear);
    const double scale = alpha == alphas.end() ? 1.0 : alpha->second / static_cast<double>(pair.down.size(0));
    adapters.emplace_back(linear + kLoraDown, pair.down);
    adapters.emplace_back(linear + kLoraUp, scale == 1.0 ? pair.up : pair.up * scale);
  }
  return adapters;
}

}  // namespace sgmd
