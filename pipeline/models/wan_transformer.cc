#include "pipeline/models/wan_transformer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "common/error/error.h"
#include "common/metrics/work_count.h"
#include "pipeline/flow/random.h"

namespace sgmd {

at::Tensor TimestepSinusoid(const at::Tensor& timestep, std::int64_t dim) {
  const at::Tensor index = at::arange(dim / 2, timestep.options().dtype(at::kDouble));
  const at::Tensor frequency = at::exp(index * (-std::log(10000.0) / static_cast<double>(dim / 2)));
  const at::Tensor angle = at::outer(timestep.to(at::kDouble), frequency);
  return at::cat({angle.cos(), angle.sin()}, 1);
}

at::Tensor RopeTable(at::IntArrayRef grid, std::int64_t head_dim) {
  const std::int64_t pairs = head_dim / 2, spatial = pairs / 3;
  const std::array<std::int64_t, 3> axis_pairs{pairs - 2 * spatial, spatial, spatial};
  std::vector<at::Tensor> angles;
  for (int axis = 0; axis < 3; ++axis) {
    const at::Tensor j = at::arange(axis_pairs[axis], at::kDouble);
    const at::Tensor frequency = at::pow(10000.0, -j / static_cast<double>(axis_pairs[axis]));
    std::array<std::int64_t, 4> shape{1, 1, 1, axis_pairs[axis]};
    shape[axis] = grid[axis];
    angles.push_back(at::outer(at::arange(grid[axis], at::kDouble), frequency)
                         .view(shape)
                         .expand({grid[0], grid[1], grid[2], axis_pairs[axis]}));
  }
  const at::Tensor angle = at::cat(angles, -1).reshape({-1, pairs});
  return at::polar(at::ones_like(angle), angle);
}

bool IsFloat32Island(std::string_view name) {
  return name.starts_with("time_embedding.") || name.ends_with("modulation") || name.find(".norm3.") != name.npos;
}

// Makes the parts of a model in the order of wan_facts §1.2.
class WanTransformer::Builder {
 public:
  Builder(const WanConfig& config, const Source& source, NamedTensors& parameters)
      : config_(config), source_(source), parameters_(parameters) {}

  at::Tensor Add(const std::string& name, at::IntArrayRef shape) {
    return parameters_.emplace_back(name, source_(name, shape)).second;
  }

  WanLinear Linear(const std::string& name, std::int64_t in, std::int64_t out) {
    WanLinear linear;
    linear.weight = Add(name + ".weight", {out, in});
    linear.bias = Add(name + ".bias", {out});
    return linear;
  }

  WanAttention Attention(const std::string& name) {
    const std::int64_t d = config_.dim;
    WanAttention a;
    a.q = Linear(name + "q", d, d);
    a.k = Linear(name + "k", d, d);
    a.v = Linear(name + "v", d, d);
    a.o = Linear(name + "o", d, d);
    a.norm_q = Add(name + "norm_q.weight", {d});
    a.norm_k = Add(name + "norm_k.weight", {d});
    return a;
  }

  WanBlock Block(const std::string& name) {
    WanBlock block;
    block.modulation = Add(name + "modulation", {1, 6, config_.dim});
    block.self_attn = Attention(name + "self_attn.");
    block.norm3_weight = Add(name + "norm3.weight", {config_.dim});
    block.norm3_bias = Add(name + "norm3.bias", {config_.dim});
    block.cross_attn = Attention(name + "cross_attn.");
    block.ffn_in = Linear(name + "ffn.0", config_.dim, config_.ffn_dim);
    block.ffn_out = Linear(name + "ffn.2", config_.ffn_dim, config_.dim);
    return block;
  }

 private:
  const WanConfig& config_;
  const Source& source_;
  NamedTensors& parameters_;
};

WanTransformer::WanTransformer(const WanConfig& config, at::Device device, WanPrecision precision)
    : WanTransformer(config, device, precision, [&](const std::string& name, at::IntArrayRef shape) {
        const bool island = precision.storage != at::kDouble && IsFloat32Island(name);
        return at::zeros(shape, at::TensorOptions(island ? at::kFloat : precision.storage).device(device));
      }) {}

WanTransformer::WanTransformer(const WanConfig& config, at::Device device, WanPrecision precision, const Source& source)
    : config_(config), device_(device), precision_(precision) {
  config_.Validate("WanConfig");
  const auto& c = config_;
  Builder build(config_, source, parameters_);
  patch_weight_ =
      build.Add("patch_embedding.weight", {c.dim, c.in_dim, c.patch_size[0], c.patch_size[1], c.patch_size[2]});
  patch_bias_ = build.Add("patch_embedding.bias", {c.dim});
  text_in_ = build.Linear("text_embedding.0", c.text_dim, c.dim);
  text_out_ = build.Linear("text_embedding.2", c.dim, c.dim);
  time_in_ = build.Linear("time_embedding.0", c.freq_dim, c.dim);
  time_out_ = build.Linear("time_embedding.2", c.dim, c.dim);
  time_projection_ = build.Linear("time_projection.1", c.dim, 6 * c.dim);
  for (std::int64_t n = 0; n < c.num_layers; ++n) blocks_.push_back(build.Block(StrCat("blocks.", n, ".")));
  head_ = build.Linear("head.head", c.dim, c.patch_volume() * c.out_dim);
  head_modulation_ = build.Add("head.modulation", {1, 2, c.dim});
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
      adapted.adapters_.emplace_back(StrCat("blocks.", n, ".", name, kLoraDown), linear->lora_down);
      adapted.adapters_.emplace_back(StrCat("blocks.", n, ".", name, kLoraUp), linear->lora_up);
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
               ends_with(name, "norm3.weight")) {
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

at::Tensor WanTransformer::EmbedPatches(const at::Tensor& x) const {
  // A convolution whose kernel equals its stride is a linear map of disjoint patches, and a matrix product is faster.
  const auto& p = config_.patch_size;
  const std::int64_t b = x.size(0), f = x.size(2) / p[0], h = x.size(3) / p[1], w = x.size(4) / p[2];
  const at::Tensor patches = x.reshape({b, config_.in_dim, f, p[0], h, p[1], w, p[2]})
                                 .permute({0, 2, 4, 6, 1, 3, 5, 7})
                                 .reshape({b, f * h * w, config_.in_dim * config_.patch_volume()});
  const at::ScalarType compute = x.scalar_type();
  return at::linear(patches, patch_weight_.flatten(1).to(compute), patch_bias_.to(compute));
}

at::Tensor WanTransformer::Unpatchify(const at::Tensor& tokens, at::IntArrayRef grid) const {
  const auto& p = config_.patch_size;  // the last axis is (p_f, p_h, p_w, c), c fastest
  return tokens.reshape({tokens.size(0), grid[0], grid[1], grid[2], p[0], p[1], p[2], config_.out_dim})
      .permute({0, 7, 1, 4, 2, 5, 3, 6})
      .reshape({tokens.size(0), config_.out_dim, grid[0] * p[0], grid[1] * p[1], grid[2] * p[2]});
}

at::ScalarType WanTransformer::wide() const { return precision_.storage == at::kDouble ? at::kDouble : at::kFloat; }

const at::Tensor& WanTransformer::RopeFor(const std::array<std::int64_t, 3>& grid) const {
  at::Tensor& rope = rope_[grid];
  if (!rope.defined()) {
    const auto complex = wide() == at::kDouble ? at::kComplexDouble : at::kComplexFloat;
    rope = RopeTable(grid, config_.head_dim()).to(device_, complex);
  }
  return rope;
}

at::Tensor WanTransformer::Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const {
  const auto& c = config_;
  const at::Tensor& context = condition.text;
  TORCH_CHECK(x.dim() == 5 && x.size(1) == c.in_dim, "latents must be [B, ", c.in_dim, ", F, H, W], got ", x.sizes());
  TORCH_CHECK(context.defined() && context.dim() == 3 && context.size(1) == c.text_len && context.size(2) == c.text_dim,
              "context must be [B, ", c.text_len, ", ", c.text_dim, "], got ", context.sizes());
  std::array<std::int64_t, 3> grid{};
  for (int axis = 0; axis < 3; ++axis) {
    TORCH_CHECK(x.size(axis + 2) % c.patch_size[axis] == 0, "latent extents ", x.sizes(),
                " do not divide into patches");
    grid[axis] = x.size(axis + 2) / c.patch_size[axis];
  }
  const auto compute = at::TensorOptions(precision_.compute).device(device_);
  const at::Tensor& rope = RopeFor(grid);

  const at::Tensor sinusoid = TimestepSinusoid(sigma * 1000.0, c.freq_dim).to(wide());
  const at::Tensor e = time_out_(at::silu(time_in_(sinusoid))).to(compute);            // [B, D]
  const at::Tensor e0 = time_projection_(at::silu(e)).view({x.size(0), 6, c.dim});     // [B, 6, D]
  const at::Tensor text = text_out_(at::gelu(text_in_(context.to(compute)), "tanh"));  // [B, text_len, D]

  at::Tensor tokens = EmbedPatches(x.to(compute));
  const auto run = checkpoint_blocks_ ? RunBlockCheckpointed : RunBlock;
  for (const WanBlock& block : blocks_) {
    tokens = run(c, block, {tokens, e0, text, text}, rope);
    CountWork();
    if (tokens.requires_grad()) tokens.register_hook([](const at::Tensor&) { CountWork(); });  // in the backward pass
  }
  const auto m = (head_modulation_ + Wide(e).unsqueeze(1)).chunk(2, 1);  // shift, scale; from e, not e0
  const at::Tensor head_in = Modulate(PlainNorm(tokens, c.eps), m[1], m[0]).to(compute);
  return Unpatchify(head_(head_in), grid).to(wide());
}

WanTransformer WanTransformer::Clone() const {
  WanTransformer copy(config_, device_, precision_);
  if (!adapters_.empty()) copy = copy.WithAdapters(lora_, 0);
  c10::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) copy.parameters_[i].second.copy_(parameters_[i].second);
  for (std::size_t i = 0; i < adapters_.size(); ++i) copy.adapters_[i].second.copy_(adapters_[i].second);
  copy.checkpoint_blocks_ = checkpoint_blocks_;
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
