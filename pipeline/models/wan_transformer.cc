#include "pipeline/models/wan_transformer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "common/error/error.h"
#include "pipeline/flow/random.h"

namespace sgmd {
namespace {

// x / rms(x) * weight over the last axis; statistics in at least float32.
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return x * at::rsqrt(x.square().mean(-1, true) + eps) * weight;
}

at::Tensor Modulate(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift) {
  return at::addcmul(shift, x, scale + 1);
}

}  // namespace

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

at::Tensor ApplyRope(const at::Tensor& x, const at::Tensor& table) {
  const auto shape = x.sizes();
  const at::Tensor pairs = at::view_as_complex(x.reshape({shape[0], shape[1], shape[2], -1, 2}));
  return at::view_as_real(pairs * table.unsqueeze(1)).flatten(-2);
}

at::Tensor WanTransformer::Linear::operator()(const at::Tensor& x) const { return at::linear(x, weight, bias); }

WanTransformer::WanTransformer(const WanConfig& config, at::Device device, at::ScalarType dtype)
    : config_(config), options_(at::TensorOptions(dtype).device(device)) {
  config_.Validate("WanConfig");
  const auto& c = config_;
  patch_weight_ = Add("patch_embedding.weight", {c.dim, c.in_dim, c.patch_size[0], c.patch_size[1], c.patch_size[2]});
  patch_bias_ = Add("patch_embedding.bias", {c.dim});
  text_in_ = AddLinear("text_embedding.0", c.text_dim, c.dim);
  text_out_ = AddLinear("text_embedding.2", c.dim, c.dim);
  time_in_ = AddLinear("time_embedding.0", c.freq_dim, c.dim);
  time_out_ = AddLinear("time_embedding.2", c.dim, c.dim);
  time_projection_ = AddLinear("time_projection.1", c.dim, 6 * c.dim);
  for (std::int64_t n = 0; n < c.num_layers; ++n) blocks_.push_back(AddBlock(StrCat("blocks.", n, ".")));
  head_ = AddLinear("head.head", c.dim, c.patch_volume() * c.out_dim);
  head_modulation_ = Add("head.modulation", {1, 2, c.dim});
}

at::Tensor WanTransformer::Add(const std::string& name, at::IntArrayRef shape) {
  return parameters_.emplace_back(name, at::zeros(shape, options_)).second;
}

WanTransformer::Linear WanTransformer::AddLinear(const std::string& name, std::int64_t in, std::int64_t out) {
  const at::Tensor weight = Add(name + ".weight", {out, in});
  return {weight, Add(name + ".bias", {out})};
}

WanTransformer::Attention WanTransformer::AddAttention(const std::string& name) {
  const std::int64_t d = config_.dim;
  Attention a;
  a.q = AddLinear(name + "q", d, d);
  a.k = AddLinear(name + "k", d, d);
  a.v = AddLinear(name + "v", d, d);
  a.o = AddLinear(name + "o", d, d);
  a.norm_q = Add(name + "norm_q.weight", {d});
  a.norm_k = Add(name + "norm_k.weight", {d});
  return a;
}

WanTransformer::Block WanTransformer::AddBlock(const std::string& name) {
  Block block;
  block.modulation = Add(name + "modulation", {1, 6, config_.dim});
  block.self_attn = AddAttention(name + "self_attn.");
  block.norm3_weight = Add(name + "norm3.weight", {config_.dim});
  block.norm3_bias = Add(name + "norm3.bias", {config_.dim});
  block.cross_attn = AddAttention(name + "cross_attn.");
  block.ffn_in = AddLinear(name + "ffn.0", config_.dim, config_.ffn_dim);
  block.ffn_out = AddLinear(name + "ffn.2", config_.ffn_dim, config_.dim);
  return block;
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
    } else if (ends_with(name, "norm_q.weight") || ends_with(name, "norm_k.weight") || ends_with(name, "norm3.weight")) {
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

at::Tensor WanTransformer::Norm(const at::Tensor& x) const { return at::layer_norm(x, {config_.dim}, {}, {}, config_.eps); }

at::Tensor WanTransformer::EmbedPatches(const at::Tensor& x) const {
  // A convolution whose kernel equals its stride is a linear map of disjoint patches, and a matrix product is faster.
  const auto& p = config_.patch_size;
  const std::int64_t b = x.size(0), f = x.size(2) / p[0], h = x.size(3) / p[1], w = x.size(4) / p[2];
  const at::Tensor patches = x.reshape({b, config_.in_dim, f, p[0], h, p[1], w, p[2]})
                                 .permute({0, 2, 4, 6, 1, 3, 5, 7})
                                 .reshape({b, f * h * w, config_.in_dim * config_.patch_volume()});
  return at::linear(patches, patch_weight_.flatten(1), patch_bias_);
}

at::Tensor WanTransformer::Unpatchify(const at::Tensor& tokens, at::IntArrayRef grid) const {
  const auto& p = config_.patch_size;  // the last axis is (p_f, p_h, p_w, c), c fastest
  return tokens.reshape({tokens.size(0), grid[0], grid[1], grid[2], p[0], p[1], p[2], config_.out_dim})
      .permute({0, 7, 1, 4, 2, 5, 3, 6})
      .reshape({tokens.size(0), config_.out_dim, grid[0] * p[0], grid[1] * p[1], grid[2] * p[2]});
}

at::Tensor WanTransformer::Attend(const Attention& a, const at::Tensor& x, const at::Tensor& context,
                                  const at::Tensor& rope) const {
  const auto heads = [&](const at::Tensor& t) {
    return t.view({t.size(0), t.size(1), config_.num_heads, config_.head_dim()});
  };
  at::Tensor q = heads(RmsNorm(a.q(x), a.norm_q, config_.eps));
  at::Tensor k = heads(RmsNorm(a.k(context), a.norm_k, config_.eps));
  if (rope.defined()) {
    q = ApplyRope(q, rope);
    k = ApplyRope(k, rope);
  }
  const at::Tensor v = heads(a.v(context));
  const at::Tensor out =
      at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2));  // scale 1/sqrt(head)
  return a.o(out.transpose(1, 2).flatten(2));
}

at::Tensor WanTransformer::RunBlock(const Block& block, at::Tensor x, const at::Tensor& e0, const at::Tensor& text,
                                    const at::Tensor& rope) const {
  // 0 shift_sa, 1 scale_sa, 2 gate_sa, 3 shift_ff, 4 scale_ff, 5 gate_ff; each [B, 1, D]
  const auto m = (block.modulation + e0).chunk(6, 1);
  const at::Tensor sa_in = Modulate(Norm(x), m[1], m[0]);
  x = at::addcmul(x, Attend(block.self_attn, sa_in, sa_in, rope), m[2]);
  const at::Tensor ca_in = at::layer_norm(x, {config_.dim}, block.norm3_weight, block.norm3_bias, config_.eps);
  x = x + Attend(block.cross_attn, ca_in, text, {});
  const at::Tensor ff = block.ffn_out(at::gelu(block.ffn_in(Modulate(Norm(x), m[4], m[3])), "tanh"));
  return at::addcmul(x, ff, m[5]);
}

at::Tensor WanTransformer::Forward(const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& context) const {
  const auto& c = config_;
  TORCH_CHECK(x.dim() == 5 && x.size(1) == c.in_dim, "latents must be [B, ", c.in_dim, ", F, H, W], got ", x.sizes());
  TORCH_CHECK(context.dim() == 3 && context.size(1) == c.text_len && context.size(2) == c.text_dim,
              "context must be [B, ", c.text_len, ", ", c.text_dim, "], got ", context.sizes());
  std::array<std::int64_t, 3> grid{};
  for (int axis = 0; axis < 3; ++axis) {
    TORCH_CHECK(x.size(axis + 2) % c.patch_size[axis] == 0, "latent extents ", x.sizes(), " do not divide into patches");
    grid[axis] = x.size(axis + 2) / c.patch_size[axis];
  }
  at::Tensor& rope = rope_[grid];
  if (!rope.defined()) {
    const auto complex = options_.dtype() == at::kDouble ? at::kComplexDouble : at::kComplexFloat;
    rope = RopeTable(grid, c.head_dim()).to(options_.device(), complex);
  }

  const at::Tensor sinusoid = TimestepSinusoid(sigma * 1000.0, c.freq_dim).to(options_.dtype());
  const at::Tensor e = time_out_(at::silu(time_in_(sinusoid)));                               // [B, D]
  const at::Tensor e0 = time_projection_(at::silu(e)).view({x.size(0), 6, c.dim});            // [B, 6, D]
  const at::Tensor text = text_out_(at::gelu(text_in_(context.to(options_)), "tanh"));        // [B, text_len, D]

  at::Tensor tokens = EmbedPatches(x.to(options_));
  for (const Block& block : blocks_) tokens = RunBlock(block, tokens, e0, text, rope);
  const auto m = (head_modulation_ + e.unsqueeze(1)).chunk(2, 1);  // shift, scale; from e, not e0
  return Unpatchify(head_(Modulate(Norm(tokens), m[1], m[0])), grid);
}

WanTransformer WanTransformer::Clone() const {
  WanTransformer copy(config_, options_.device(), c10::typeMetaToScalarType(options_.dtype()));
  c10::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) copy.parameters_[i].second.copy_(parameters_[i].second);
  return copy;
}

void WanTransformer::SetRequiresGrad(bool requires_grad) {
  for (auto& [name, p] : parameters_) p.set_requires_grad(requires_grad);
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

at::Device WanTransformer::device() const { return options_.device(); }

}  // namespace sgmd
