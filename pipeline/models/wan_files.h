// The tensors of a Wan transformer's files under their original names, whatever names the files use.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "common/storage/sharded_safetensors.h"
#include "pipeline/models/wan_config.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

inline constexpr char kWanWeightsName[] = "diffusion_pytorch_model.safetensors";

/// By original name (wan_names.h): prefixes of single files are taken off and Diffusers' names are translated. A name
/// that is in neither table is kept as it is. Throws Error when two tensors mean the same one.
std::map<std::string, const TensorView*> ByOriginalName(const ShardedSafetensors& files);

/// Throws Error that lists every tensor of `model` that is missing in `found`, has another shape there, or is not of a
/// floating dtype, and every one that `model` does not have. `path`: the file that the error names.
void RequireFit(const std::map<std::string, const TensorView*>& found, const NamedTensors& model,
                const std::filesystem::path& path);

/// A tensor over the mapped bytes themselves where their alignment allows it, else a copy. Not to be written to, and
/// not to be used once the file is closed. For copying from, not for computing with (see CopyToTensor).
at::Tensor MappedTensor(const TensorView& view);

/// The weights of a model on disk, to be gone through once.
class WanWeights {
 public:
  /// As WanTransformer::Load, of which it is the first half: opens, and throws Error on what does not fit.
  static WanWeights Open(const std::filesystem::path& model);

  const WanConfig& config() const { return config_; }
  /// Shows every parameter by its original name, in the order of the disk, over mapped bytes that are not to be used
  /// after the call (MappedTensor). Tells its progress where there is much of it.
  void ForEach(const std::function<void(const std::string& name, const at::Tensor& mapped)>& take) const;

 private:
  WanWeights(std::filesystem::path model, WanConfig config, ShardedSafetensors files)
      : model_(std::move(model)), config_(std::move(config)), files_(std::move(files)) {}

  std::filesystem::path model_;
  WanConfig config_;
  ShardedSafetensors files_;
};

}  // namespace sgmd
