#include "pipeline/models/offloaded_wan.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>

#include "pipeline/models/wan_files.h"

namespace sgmd {

OffloadedWan::OffloadedWan(const WanConfig& config, at::Device device, WanPrecision precision,
                           const ParameterSource& outside)
    : config_(config),
      precision_(precision),
      stem_(StemFrom(config, outside)),
      head_(HeadFrom(config, outside)),
      blocks_(config, device, precision.storage) {}

OffloadedWan OffloadedWan::Load(const std::filesystem::path& path, at::Device device, WanPrecision precision) {
  const WanWeights weights = WanWeights::Open(path);
  std::map<std::string, at::Tensor> outside;
  OffloadedWan model(weights.config(), device, precision, [&](const std::string& name, at::IntArrayRef shape) {
    const bool island = precision.storage != at::kDouble && IsFloat32Island(name);
    return outside[name] = at::empty(shape, at::TensorOptions(island ? at::kFloat : precision.storage).device(device));
  });
  const c10::NoGradGuard no_grad;
  weights.ForEach([&](const std::string& name, const at::Tensor& mapped) {
    if (const auto target = outside.find(name); target != outside.end()) {
      target->second.copy_(mapped);
    } else {
      model.blocks_.Set(name, mapped);
    }
  });
  return model;
}

at::Tensor OffloadedWan::Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const {
  const auto& [text, image, clip] = condition;
  const auto needs_graph = [](const at::Tensor& t) { return t.defined() && t.requires_grad(); };
  TORCH_CHECK(
      !c10::GradMode::is_enabled() || std::ranges::none_of(std::array{x, sigma, text, image, clip}, needs_graph),
      "an offloaded model gives no gradients: its blocks are overwritten when they have run");
  const BlockRunner run = [&](std::int64_t number, const WanBlockInputs& inputs, const at::Tensor& rope) {
    return RunBlock(config_, blocks_.Use(number), inputs, rope, precision_.kernels);
  };
  const at::ScalarType wide = precision_.storage == at::kDouble ? at::kDouble : at::kFloat;
  return WanForward(config_, {precision_.compute, wide, precision_.kernels}, stem_, head_, run, ropes_, x, sigma,
                    condition);
}

}  // namespace sgmd
