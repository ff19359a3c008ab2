#include "pipeline/models/wan_transformer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "common/error/error.h"
#include "pipeline/flow/random.h"

namespace sgmd {

namespace {

bool IsClipNorm(std::string_view name) {
  return name.starts_with("img_emb.proj.0.") || name.starts_with("img_emb.proj.4.");
}

}  // namespace

bool IsFloat32Island(std::string_view name) {
  return name.starts_with("time_embedding.") || name.ends_with("modulation") || name.find(".norm3.") != name.npos ||
         IsClipNorm(name);
}

WanTransformer::WanTransformer(const WanConfig& config, at::Device device, WanPrecision precision)
    : WanTransformer(config, device, precision, [&](const std::string& name, at::IntArrayRef shape) {
        const bool island = precision.storage != at::kDouble && IsFloat32Island(name);
        return at::zeros(shape, at::TensorOptions(island ? at::kFloat : precision.storage).device(device));
      }) {}

WanTransformer::WanTransformer(const WanConfig& config, at::Device device, WanPrecision precision,
                               const ParameterSource& source)
    : config_(config), device_(device), precision_(precision) {
  config_.Validate("WanConfig");
  const ParameterSource added = [&](const std::string& name, at::IntArrayRef shape) {
    return parameters_.emplace_back(name, source(name, shape)).second;
  };
  stem_ = StemFrom(config_, added);
  for (std::int64_t n = 0; n < config_.num_layers; ++n) blocks_.push_back(BlockFrom(config_, n, added));
  head_ = HeadFrom(config_, added);
}

WanTransformer WanTransformer::WithAdapters(const LoraConfig& lora, std::uint64_t seed) const {
  if (!adapters_.empty()) throw Error("the model has adapters already");
  std::size_t next = 0;
  WanTransformer adapted(config_, device_, precision_,
                         [&](const std::string&, at::IntArrayRef) { return parameters_[next++].second.detach(); });
  adapted.lora_ = lora;
  const auto options = at::TensorOptions(wide()).device(device_);
  for (std::size_t n = 0; n < adapted.blocks_.size(); ++n) {
    for (const auto& [name, linear] : adapted.blocks_[n].Linears()) {
      if (!lora.Adapts(name)) continue;
      linear->lora_down = at::zeros({lora.rank, linear->weight.size(1)}, options);
      linear->lora_up = at::zeros({linear->weight.size(0), lora.rank}, options);
      linear->lora_scale = lora.Scale();
      adapted.adapters_.emplace_back(StrCat(BlockPrefix(static_cast<std::int64_t>(n)), name, kLoraDown),
                                     linear->lora_down);
      adapted.adapters_.emplace_back(StrCat(BlockPrefix(static_cast<std::int64_t>(n)), name, kLoraUp), linear->lora_up);
    }
  }
  if (adapted.adapters_.empty()) throw Error("no Linear of the model is a target of the adapters");
  DrawAdapters(adapted.adapters_, seed);
  return adapted;
}

void WanTransformer::Initialise(std::uint64_t seed) {
  c10::NoGradGuard no_grad;
  const auto ends_with = [](const std::string& name, std::string_view tail) { return name.ends_with(tail); };
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, p] = parameters_[i];
    const auto normal = [&](double scale) {
      p.copy_(Noise(p.sizes(), SeedFor(seed, 0, static_cast<std::int64_t>(i), "initialise")) * scale);
    };
    if (ends_with(name, "modulation")) {
      normal(1.0 / std::sqrt(static_cast<double>(config_.dim)));
    } else if (ends_with(name, "norm_q.weight") || ends_with(name, "norm_k.weight") ||
               ends_with(name, "norm_k_img.weight") || ends_with(name, "norm3.weight") ||
               (IsClipNorm(name) && ends_with(name, "weight"))) {
      p.fill_(1);
    } else if (ends_with(name, "bias") || name == "head.head.weight") {
      p.zero_();
    } else if (name.starts_with("text_embedding") || name.starts_with("time_embedding")) {
      normal(0.02);
    } else {  // Xavier uniform over [out, in]; the patch convolution flattened likewise
      const double fan = static_cast<double>(p.size(0) + p.numel() / p.size(0));
      const double bound = std::sqrt(6.0 / fan);
      p.copy_((Uniform(p.sizes(), SeedFor(seed, 0, static_cast<std::int64_t>(i), "initialise")) * 2 - 1) * bound);
    }
  }
}

at::ScalarType WanTransformer::wide() const { return precision_.storage == at::kDouble ? at::kDouble : at::kFloat; }

at::Tensor WanTransformer::Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const {
  const BlockRunner blocks = [&](std::int64_t number, const WanBlockInputs& inputs, const at::Tensor& rope) {
    const WanBlock& block = blocks_[static_cast<std::size_t>(number)];
    return recompute_.OfBlock(number, config_.num_layers)
               ? RunBlockCheckpointed(config_, block, inputs, rope, precision_.kernels, recompute_.keep_attention)
               : RunBlock(config_, block, inputs, rope, precision_.kernels);
  };
  return WanForward(config_, {precision_.compute, wide(), precision_.kernels}, stem_, head_, blocks, ropes_, x, sigma,
                    condition);
}

WanTransformer WanTransformer::Clone() const {
  WanTransformer copy(config_, device_, precision_);
  if (!adapters_.empty()) copy = copy.WithAdapters(lora_, 0);
  c10::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) copy.parameters_[i].second.copy_(parameters_[i].second);
  for (std::size_t i = 0; i < adapters_.size(); ++i) copy.adapters_[i].second.copy_(adapters_[i].second);
  copy.recompute_ = recompute_;
  return copy;
}

void WanTransformer::SetRequiresGrad(bool requires_grad) {
  for (const auto& [name, tensor] : trained()) tensor.set_requires_grad(requires_grad);
}

std::vector<at::Tensor> WanTransformer::ParameterTensors() const {
  std::vector<at::Tensor> tensors;
  for (const auto& [name, p] : parameters_) tensors.push_back(p);
  return tensors;
}

std::int64_t WanTransformer::ParameterCount() const {
  std::int64_t count = 0;
  for (const auto& [name, p] : parameters_) count += p.numel();
  return count;
}

at::Device WanTransformer::device() const { return device_; }

}  // namespace sgmd
