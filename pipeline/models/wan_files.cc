#include "pipeline/models/wan_files.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <optional>

#include "common/error/error.h"
#include "common/metrics/progress.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/model_folder.h"
#include "pipeline/models/wan_names.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

constexpr std::int64_t kMiB = 1 << 20;
constexpr std::int64_t kWorthProgress = 1024;  // MiB

// Diffusers' root table has a name that no original file has.
bool HasDiffusersNames(const ShardedSafetensors& files) {
  for (const TensorView& view : files.tensors()) {
    if (WithoutModelPrefix(view.name) == "scale_shift_table") return true;
  }
  return false;
}

}  // namespace

std::map<std::string, const TensorView*> ByOriginalName(const ShardedSafetensors& files) {
  const bool diffusers = HasDiffusersNames(files);
  std::map<std::string, const TensorView*> found;
  for (const TensorView& view : files.tensors()) {
    std::string name(WithoutModelPrefix(view.name));
    if (diffusers) name = FindOriginalName(name).value_or(name);
    if (!found.emplace(name, &view).second) throw Error("holds " + name + " twice", files.path().string());
  }
  return found;
}

void RequireFit(const std::map<std::string, const TensorView*>& found, const NamedTensors& model,
                const std::filesystem::path& path) {
  std::string problems;
  std::map<std::string_view, const at::Tensor*> by_name;
  for (const auto& [name, tensor] : model) {
    by_name.emplace(name, &tensor);
    if (!found.contains(name)) problems += "\n  missing: " + name;
  }
  for (const auto& [name, view] : found) {
    const std::string written = name == view->name ? name : StrCat(name, " (there ", view->name, ")");
    const auto it = by_name.find(name);
    if (it == by_name.end()) {
      problems += "\n  unexpected: " + written;
    } else if (at::IntArrayRef(view->shape) != it->second->sizes()) {
      problems +=
          StrCat("\n  shape of ", written, ": file ", at::IntArrayRef(view->shape), ", model ", it->second->sizes());
    } else if (!at::isFloatingType(ToTorch(view->dtype))) {
      problems += StrCat("\n  dtype of ", written, ": ", Name(view->dtype), " is not a floating type");
    }
  }
  if (!problems.empty()) {
    throw Error("the weights do not fit the model:" + problems, path.string(),
                "check that config.json beside them belongs to them");
  }
}

at::Tensor MappedTensor(const TensorView& view) {
  if (view.bytes.empty() || reinterpret_cast<std::uintptr_t>(view.bytes.data()) % ByteSize(view.dtype) != 0)
    return CopyToTensor(view);
  return at::from_blob(const_cast<std::byte*>(view.bytes.data()), view.shape, at::TensorOptions(ToTorch(view.dtype)));
}

WanWeights WanWeights::Open(const std::filesystem::path& path) {
  const ModelFiles files = FindModel(path);
  const WanConfig config = WanConfig::FromFile(files.config);  // before the weights are touched: refusals come at once
  WanWeights weights(path, config, ShardedSafetensors::Open(files.weights));
  RequireFit(ByOriginalName(weights.files_), WanTransformer(config, at::kMeta).parameters(), files.weights);
  return weights;
}

void WanWeights::ForEach(const std::function<void(const std::string&, const at::Tensor&)>& take) const {
  std::map<const TensorView*, std::string> names;
  std::int64_t total = 0, done = 0;
  for (const auto& [name, view] : ByOriginalName(files_)) {
    names.emplace(view, name);
    total += static_cast<std::int64_t>(view->bytes.size());
  }
  std::optional<ProgressLine> progress;
  if (total / kMiB >= kWorthProgress) progress.emplace("loading " + model_.string() + ", MiB", total / kMiB);
  for (const TensorView& view : files_.tensors()) {
    take(names.at(&view), MappedTensor(view));
    files_.Release(view);
    done += static_cast<std::int64_t>(view.bytes.size());
    if (progress) progress->Update(done / kMiB);
  }
}

WanTransformer WanTransformer::Load(const std::filesystem::path& path, at::Device device, WanPrecision precision) {
  const WanWeights weights = WanWeights::Open(path);
  WanTransformer model(weights.config(), device, precision);
  const std::map<std::string, at::Tensor> targets(model.parameters_.begin(), model.parameters_.end());
  const c10::NoGradGuard no_grad;
  weights.ForEach([&](const std::string& name, const at::Tensor& mapped) {
    at::Tensor target = targets.at(name);
    target.copy_(mapped);
  });
  return model;
}

void WanTransformer::Save(const std::filesystem::path& folder, Metadata metadata) const {
  SaveTensors(folder / kWanWeightsName, parameters_, std::move(metadata));
  WriteFileAtomically(folder / "config.json", config_.ToJson());
}

}  // namespace sgmd
