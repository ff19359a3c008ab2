#include "pipeline/models/wan_forward.h"

#include <ATen/ATen.h>

#include <cmath>

#include "common/error/error.h"
#include "common/metrics/work_count.h"
#include "pipeline/flow/first_frame.h"

namespace sgmd {
namespace {

static_assert(WanConfig::kMaskChannels == kFirstFrameMaskChannels);

WanLinear LinearFrom(const std::string& name, std::int64_t in, std::int64_t out, const ParameterSource& source) {
  WanLinear linear;
  linear.weight = source(name + ".weight", {out, in});
  linear.bias = source(name + ".bias", {out});
  return linear;
}

WanClipEmbedding ClipEmbeddingFrom(const WanConfig& c, const ParameterSource& source) {
  WanClipEmbedding clip;
  clip.norm_in_weight = source("img_emb.proj.0.weight", {c.image_dim});
  clip.norm_in_bias = source("img_emb.proj.0.bias", {c.image_dim});
  clip.in = LinearFrom("img_emb.proj.1", c.image_dim, c.image_dim, source);
  clip.out = LinearFrom("img_emb.proj.3", c.image_dim, c.dim, source);
  clip.norm_out_weight = source("img_emb.proj.4.weight", {c.dim});
  clip.norm_out_bias = source("img_emb.proj.4.bias", {c.dim});
  return clip;
}

// [B, M, image_dim] -> [B, M, D], in the dtype of the tokens.
at::Tensor EmbedClip(const WanClipEmbedding& clip, const at::Tensor& tokens) {
  constexpr double kEps = 1e-5;
  const auto norm = [&](const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    return at::layer_norm(Wide(x), {x.size(-1)}, weight, bias, kEps).to(tokens.scalar_type());
  };
  const at::Tensor inner = at::gelu(clip.in(norm(tokens, clip.norm_in_weight, clip.norm_in_bias)));
  return norm(clip.out(inner), clip.norm_out_weight, clip.norm_out_bias);
}

WanAttention AttentionFrom(const WanConfig& config, const std::string& name, const ParameterSource& source) {
  const std::int64_t d = config.dim;
  WanAttention a;
  a.q = LinearFrom(name + "q", d, d, source);
  a.k = LinearFrom(name + "k", d, d, source);
  a.v = LinearFrom(name + "v", d, d, source);
  a.o = LinearFrom(name + "o", d, d, source);
  a.norm_q = source(name + "norm_q.weight", {d});
  a.norm_k = source(name + "norm_k.weight", {d});
  return a;
}

// The latents with what the model is told of the first frame: [B, in_dim, F, H, W].
at::Tensor WithImage(const WanConfig& config, const at::Tensor& x, const at::Tensor& image) {
  if (!image.defined()) return x;
  return config.takes_image() ? at::cat({x, FirstFrameCondition(image.to(x.options()))}, 1) : WithFirstFrame(x, image);
}

// Time modulations: e [B, D] of the head, and e0 of the blocks, [B, 6, D]; with a held frame, whose time is 0, e0 is
// [B, 12, D].
struct TimeEmbedding {
  at::Tensor e, e0;
};
TimeEmbedding EmbedTime(const WanConfig& c, WanArithmetic arithmetic, const WanStem& stem, const at::Tensor& sigma,
                        bool holds) {
  const at::Tensor times = holds ? at::cat({at::zeros({1}, sigma.options()), sigma}) : sigma;
  const at::Tensor sinusoid = TimestepSinusoid(times * 1000.0, c.freq_dim).to(arithmetic.wide);
  const at::Tensor e = stem.time_out(at::silu(stem.time_in(sinusoid))).to(arithmetic.compute);
  const at::Tensor e0 = stem.time_projection(at::silu(e)).view({-1, 6, c.dim});
  if (!holds) return {e, e0};
  const at::Tensor rest = e0.slice(0, 1);
  return {e.slice(0, 1), at::cat({e0.slice(0, 0, 1).expand_as(rest), rest}, 1)};
}

// [B, in_dim, F, H, W] -> [B, N, D]. A convolution whose kernel equals its stride is a linear map of disjoint patches,
// and a matrix product is faster.
at::Tensor EmbedPatches(const WanConfig& config, const WanStem& stem, const at::Tensor& x, const TokenShare* share) {
  const auto& p = config.patch_size;
  const std::int64_t b = x.size(0), f = x.size(2) / p[0], h = x.size(3) / p[1], w = x.size(4) / p[2];
  at::Tensor patches = x.reshape({b, config.in_dim, f, p[0], h, p[1], w, p[2]})
                           .permute({0, 2, 4, 6, 1, 3, 5, 7})
                           .reshape({b, f * h * w, config.in_dim * config.patch_volume()});
  if (share != nullptr) patches = share->Own(patches);
  const at::ScalarType compute = x.scalar_type();
  return at::linear(patches, stem.patch_weight.flatten(1).to(compute), stem.patch_bias.to(compute));
}

at::Tensor Unpatchify(const WanConfig& config, const at::Tensor& tokens, at::IntArrayRef grid) {
  const auto& p = config.patch_size;  // the last axis is (p_f, p_h, p_w, c), c fastest
  return tokens.reshape({tokens.size(0), grid[0], grid[1], grid[2], p[0], p[1], p[2], config.out_dim})
      .permute({0, 7, 1, 4, 2, 5, 3, 6})
      .reshape({tokens.size(0), config.out_dim, grid[0] * p[0], grid[1] * p[1], grid[2] * p[2]});
}

void CheckImages(const WanConfig& c, const at::Tensor& x, const Conditioning& condition) {
  const auto& [text, image, clip] = condition;
  TORCH_CHECK(
      (image.defined() ? c.takes_image() || c.may_hold_image() : !c.takes_image()) && clip.defined() == c.takes_clip(),
      "a condition with image: ", image.defined(), " and CLIP tokens: ", clip.defined(),
      ", the model takes image: ", c.takes_image(), " and CLIP tokens: ", c.takes_clip());
  if (!image.defined()) return;
  std::vector<std::int64_t> shape = x.sizes().vec();
  if (c.may_hold_image()) {
    TORCH_CHECK(c.patch_size[0] == 1 && shape[2] > 1,
                "a first frame is held by a model whose patches are of one frame, ", "in a video of several");
    shape[2] = 1;
  }
  TORCH_CHECK(image.sizes() == at::IntArrayRef(shape), "the latents of the first frame must be ",
              at::IntArrayRef(shape), ", got ", image.sizes());
  TORCH_CHECK(!clip.defined() || (clip.dim() == 3 && clip.size(0) == x.size(0) && clip.size(2) == c.image_dim),
              "CLIP tokens must be [B, M, ", c.image_dim, "], got ", clip.sizes());
}

// Tokens along frames, height and width.
std::array<std::int64_t, 3> GridOf(const WanConfig& c, const at::Tensor& x, const at::Tensor& context) {
  TORCH_CHECK(x.dim() == 5 && x.size(1) == c.out_dim, "latents must be [B, ", c.out_dim, ", F, H, W], got ", x.sizes());
  TORCH_CHECK(context.defined() && context.dim() == 3 && context.size(1) == c.text_len && context.size(2) == c.text_dim,
              "context must be [B, ", c.text_len, ", ", c.text_dim, "], got ", context.sizes());
  std::array<std::int64_t, 3> grid{};
  for (int axis = 0; axis < 3; ++axis) {
    TORCH_CHECK(x.size(axis + 2) % c.patch_size[axis] == 0, "latent extents ", x.sizes(),
                " do not divide into patches");
    grid[axis] = x.size(axis + 2) / c.patch_size[axis];
  }
  return grid;
}

}  // namespace

std::string BlockPrefix(std::int64_t number) { return StrCat("blocks.", number, "."); }

WanStem StemFrom(const WanConfig& c, const ParameterSource& source) {
  WanStem stem;
  stem.patch_weight =
      source("patch_embedding.weight", {c.dim, c.in_dim, c.patch_size[0], c.patch_size[1], c.patch_size[2]});
  stem.patch_bias = source("patch_embedding.bias", {c.dim});
  stem.text_in = LinearFrom("text_embedding.0", c.text_dim, c.dim, source);
  stem.text_out = LinearFrom("text_embedding.2", c.dim, c.dim, source);
  stem.time_in = LinearFrom("time_embedding.0", c.freq_dim, c.dim, source);
  stem.time_out = LinearFrom("time_embedding.2", c.dim, c.dim, source);
  stem.time_projection = LinearFrom("time_projection.1", c.dim, 6 * c.dim, source);
  if (c.takes_clip()) stem.clip = ClipEmbeddingFrom(c, source);
  return stem;
}

WanBlock BlockFrom(const WanConfig& config, std::int64_t number, const ParameterSource& source) {
  const std::string name = BlockPrefix(number);
  WanBlock block;
  block.modulation = source(name + "modulation", {1, 6, config.dim});
  block.self_attn = AttentionFrom(config, name + "self_attn.", source);
  block.norm3_weight = source(name + "norm3.weight", {config.dim});
  block.norm3_bias = source(name + "norm3.bias", {config.dim});
  block.cross_attn = AttentionFrom(config, name + "cross_attn.", source);
  block.ffn_in = LinearFrom(name + "ffn.0", config.dim, config.ffn_dim, source);
  block.ffn_out = LinearFrom(name + "ffn.2", config.ffn_dim, config.dim, source);
  if (config.takes_clip()) {
    block.cross_attn.k_img = LinearFrom(name + "cross_attn.k_img", config.dim, config.dim, source);
    block.cross_attn.v_img = LinearFrom(name + "cross_attn.v_img", config.dim, config.dim, source);
    block.cross_attn.norm_k_img = source(name + "cross_attn.norm_k_img.weight", {config.dim});
  }
  return block;
}

WanHead HeadFrom(const WanConfig& c, const ParameterSource& source) {
  WanHead head;
  head.linear = LinearFrom("head.head", c.dim, c.patch_volume() * c.out_dim, source);
  head.modulation = source("head.modulation", {1, 2, c.dim});
  return head;
}

const at::Tensor& RopeTables::For(const std::array<std::int64_t, 3>& grid, const WanConfig& config, at::ScalarType wide,
                                  at::Device device) {
  at::Tensor& table = tables_[grid];
  if (!table.defined()) {
    const auto complex = wide == at::kDouble ? at::kComplexDouble : at::kComplexFloat;
    table = RopeTable(grid, config.head_dim()).to(device, complex);
  }
  return table;
}

at::Tensor WanForward(const WanConfig& c, WanArithmetic arithmetic, const WanStem& stem, const WanHead& head,
                      const BlockRunner& run, RopeTables& ropes, const at::Tensor& x, const at::Tensor& sigma,
                      const Conditioning& condition, const TokenShare* share) {
  const auto grid = GridOf(c, x, condition.text);
  CheckImages(c, x, condition);
  const at::Device device = stem.patch_weight.device();
  const auto compute = at::TensorOptions(arithmetic.compute).device(device);
  const at::Tensor& rope = ropes.For(grid, c, arithmetic.wide, device);

  const bool holds = c.may_hold_image() && condition.image.defined();
  const auto [e, e0] = EmbedTime(c, arithmetic, stem, sigma, holds);
  const at::Tensor text =
      stem.text_out(Gelu(arithmetic.kernels, stem.text_in(condition.text.to(compute))));  // [B, text_len, D]
  const at::Tensor clip = c.takes_clip() ? EmbedClip(stem.clip, condition.clip.to(compute)) : at::Tensor();

  at::Tensor tokens = EmbedPatches(c, stem, WithImage(c, x.to(compute), condition.image), share);
  for (std::int64_t number = 0; number < c.num_layers; ++number) {
    tokens = run(number, {tokens, e0, text, text, clip, clip, holds ? grid[1] * grid[2] : 0}, rope);
    CountWork();
    if (tokens.requires_grad()) tokens.register_hook([](const at::Tensor&) { CountWork(); });  // in the backward pass
  }
  const auto m = (head.modulation + Wide(e).unsqueeze(1)).chunk(2, 1);  // shift, scale; from e, not e0
  at::Tensor out = head.linear(AdaptiveNorm(arithmetic.kernels, tokens, m[1], m[0], c.eps));
  if (share != nullptr) out = share->All(out, rope.size(0));
  out = Unpatchify(c, out, grid).to(arithmetic.wide);
  return holds ? LeadingTo(condition.image, x, sigma, out) : out;
}

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

}  // namespace sgmd
