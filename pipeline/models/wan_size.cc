#include "pipeline/models/wan_size.h"

#include <algorithm>

#include "common/error/error.h"

namespace sgmd {
namespace {

std::int64_t LinearParameters(std::int64_t in, std::int64_t out) { return in * out + out; }

// Sizes as real numbers: products of them exceed 64 bits nowhere, but FLOPs are counted in doubles anyway.
struct Sizes {
  double d, f, l, h, m, text, in, out, patch;
  double clip, clip_width;  // tokens, and their width; 0 where there are none
  explicit Sizes(const WanConfig& c)
      : d(static_cast<double>(c.dim)),
        f(static_cast<double>(c.ffn_dim)),
        l(static_cast<double>(c.num_layers)),
        h(static_cast<double>(c.num_heads)),
        m(static_cast<double>(c.text_len)),
        text(static_cast<double>(c.text_dim)),
        in(static_cast<double>(c.in_dim)),
        out(static_cast<double>(c.out_dim)),
        patch(static_cast<double>(c.patch_volume())),
        clip(c.takes_clip() ? static_cast<double>(WanConfig::kClipTokens) : 0),
        clip_width(static_cast<double>(c.image_dim)) {}
};

double Bytes(const SavedElements& elements, const PassSettings& pass) {
  return 4 * elements.wide + static_cast<double>(pass.compute_bytes) * elements.narrow;
}

SavedElements OutsideElements(const WanConfig& config, double n, const PassSettings& pass) {
  const Sizes s(config);
  const bool fused = pass.kernels == Kernels::kFused;
  const bool full = pass.backward == Backward::kFull;
  const double text =
      (full ? s.m * (s.text + 3 * s.d) : s.m * s.d) + (full ? s.clip * (4 * s.clip_width + 2 * s.d) : s.clip * s.d);
  if (!full) return fused ? SavedElements{0, n * s.d + text} : SavedElements{n * s.d, text};
  const double patches = n * s.patch * s.in;
  return fused ? SavedElements{0, 2 * n * s.d + patches + text} : SavedElements{2 * n * s.d, n * s.d + patches + text};
}

}  // namespace

std::int64_t BlockParameterCount(const WanConfig& c) {
  const std::int64_t attention = 4 * LinearParameters(c.dim, c.dim) + 2 * c.dim;  // q, k, v, o; norm_q, norm_k
  const std::int64_t feed_forward = LinearParameters(c.dim, c.ffn_dim) + LinearParameters(c.ffn_dim, c.dim);
  const std::int64_t clip = c.takes_clip() ? 2 * LinearParameters(c.dim, c.dim) + c.dim : 0;  // k_img, v_img, norm
  return 6 * c.dim + 2 * attention + 2 * c.dim + feed_forward + clip;                         // modulation, norm3
}

std::int64_t ParameterCount(const WanConfig& c) {
  const std::int64_t text = LinearParameters(c.text_dim, c.dim) + LinearParameters(c.dim, c.dim);
  const std::int64_t time =
      LinearParameters(c.freq_dim, c.dim) + LinearParameters(c.dim, c.dim) + LinearParameters(c.dim, 6 * c.dim);
  const std::int64_t head = LinearParameters(c.dim, c.patch_volume() * c.out_dim) + 2 * c.dim;
  const std::int64_t clip = LinearParameters(c.image_dim, c.image_dim) + LinearParameters(c.image_dim, c.dim) +
                            2 * (c.image_dim + c.dim);  // two norms
  return LinearParameters(c.in_dim * c.patch_volume(), c.dim) + text + time + c.num_layers * BlockParameterCount(c) +
         head + (c.takes_clip() ? clip : 0);
}

std::int64_t LoraParameterCount(const WanConfig& c, std::int64_t rank, const std::vector<std::string>& targets) {
  const std::vector<std::string> linears{"self_attn.q",  "self_attn.k",  "self_attn.v",  "self_attn.o", "cross_attn.q",
                                         "cross_attn.k", "cross_attn.v", "cross_attn.o", "ffn.0",       "ffn.2"};
  const auto matches = [](const std::string& linear, const std::string& target) {
    return linear == target || linear.ends_with("." + target);
  };
  for (const std::string& target : targets) {
    if (std::none_of(linears.begin(), linears.end(), [&](const auto& linear) { return matches(linear, target); })) {
      throw Error("no Linear \"" + target + "\" in a block", {}, "q, k, v, o, ffn.0 and ffn.2 are");
    }
  }
  std::int64_t widths = 0;  // in + out of the adapted Linears of a block
  for (const std::string& linear : linears) {
    const bool adapted =
        std::any_of(targets.begin(), targets.end(), [&](const auto& target) { return matches(linear, target); });
    if (adapted) widths += c.dim + (linear.starts_with("ffn.") ? c.ffn_dim : c.dim);
  }
  return c.num_layers * rank * widths;
}

std::int64_t TokenCount(const WanConfig& c, const std::vector<std::int64_t>& latent) {
  const auto fail = [&](const std::string& message) {
    std::string shape;
    for (const std::int64_t extent : latent) shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
    throw Error(message, "latent [" + shape + "]");
  };
  if (latent.size() != 4) fail("a latent video is [channels, frames, height, width]");
  if (latent[0] != c.out_dim) fail(StrCat("the model takes ", c.out_dim, " channels"));
  std::int64_t tokens = 1;
  for (int axis = 0; axis < 3; ++axis) {
    const std::int64_t extent = latent[axis + 1], patch = c.patch_size[axis];
    if (extent < 1 || extent % patch != 0) fail(StrCat("extent ", extent, " does not divide into patches of ", patch));
    tokens *= extent / patch;
  }
  return tokens;
}

ForwardFlops ForwardFlopsOf(const WanConfig& config, std::int64_t tokens) {
  const Sizes s(config);
  const double n = static_cast<double>(tokens);
  ForwardFlops flops;
  flops.linear = s.l * 2 * (6 * n * s.d * s.d + 2 * s.m * s.d * s.d + 2 * n * s.d * s.f) +
                 2 * n * s.patch * (s.in + s.out) * s.d + 2 * s.m * (s.text * s.d + s.d * s.d) +
                 s.l * 4 * s.clip * s.d * s.d + 2 * s.clip * (s.clip_width * s.clip_width + s.clip_width * s.d);
  flops.self_attention = s.l * 4 * n * n * s.d;
  flops.cross_attention = s.l * 4 * n * (s.m + s.clip) * s.d;
  return flops;
}

SavedElements BlockSavedElements(const WanConfig& config, std::int64_t tokens, Backward backward,
                                 std::int64_t lora_rank, Kernels kernels) {
  const Sizes s(config);
  const double n = static_cast<double>(tokens), nd = n * s.d, md = s.m * s.d, nf = n * s.f;
  const double kd = s.clip * s.d, extra = s.clip > 0 ? nd : 0;  // of an output more
  const double statistics = n * (2 * s.h + 9) + s.m + (s.clip > 0 ? n * s.h : 0) + s.clip;
  if (kernels == Kernels::kFused) {
    switch (backward) {
      case Backward::kNone:
        return {};
      case Backward::kInput:
        return {statistics, 12 * nd + 2 * md + nf + extra + 2 * kd};
      case Backward::kAdapters:
        return {statistics,
                15 * nd + 3 * md + 2 * nf + static_cast<double>(lora_rank) * (8 * n + 2 * s.m) + 2 * extra + 2 * kd};
      case Backward::kFull:
        return {statistics, 17 * nd + 3 * md + 2 * nf + 2 * extra + 3 * kd};
    }
  }
  switch (backward) {
    case Backward::kNone:
      return {};
    case Backward::kInput:
      return {6 * nd + statistics, 6 * nd + 2 * md + nf + extra + 2 * kd};
    case Backward::kAdapters:
      return {6 * nd + md + statistics,
              9 * nd + 2 * md + 2 * nf + static_cast<double>(lora_rank) * (8 * n + 2 * s.m) + 2 * extra + 2 * kd};
    case Backward::kFull:
      return {13 * nd + 2 * md + statistics + 2 * kd, 9 * nd + 2 * md + 2 * nf + 2 * extra + 2 * kd};
  }
  return {};
}

double CheckpointBytes(const WanConfig& config, std::int64_t tokens, std::int64_t samples, std::int64_t stream_bytes) {
  return static_cast<double>(stream_bytes) * static_cast<double>(samples) * static_cast<double>(tokens) *
         static_cast<double>(config.dim) * static_cast<double>(config.num_layers);
}

namespace {

// What one block keeps of one sample.
double BlockBytes(const WanConfig& config, std::int64_t tokens, const PassSettings& pass) {
  return Bytes(BlockSavedElements(config, tokens, pass.backward, pass.lora_rank, pass.kernels), pass);
}

}  // namespace

std::int64_t BlocksAgain(const WanConfig& config, const PassSettings& pass) {
  return pass.checkpoint_blocks ? std::max<std::int64_t>(config.num_layers - pass.keep_blocks, 0) : 0;
}

double GraphBytes(const WanConfig& config, std::int64_t tokens, const PassSettings& pass) {
  if (pass.backward == Backward::kNone) return 0;
  const double samples = static_cast<double>(pass.samples), n = static_cast<double>(tokens);
  const double outside = samples * Bytes(OutsideElements(config, n, pass), pass);
  const Sizes s(config);
  const double again = static_cast<double>(BlocksAgain(config, pass));
  const double inputs = CheckpointBytes(config, tokens, pass.samples, pass.compute_bytes) * again / s.l;
  const double attention = pass.keep_attention ? inputs + 4 * samples * n * s.h * again : 0;
  return samples * (s.l - again) * BlockBytes(config, tokens, pass) + inputs + attention + outside;
}

double AttentionWorkspaceBytes(const WanConfig& config, std::int64_t tokens, std::int64_t samples, std::int64_t heads,
                               bool deterministic) {
  constexpr std::int64_t kMultiprocessors = 132;
  const std::int64_t rows = samples * heads, copies = deterministic ? (kMultiprocessors + rows - 1) / rows : 1;
  return 4.0 * static_cast<double>(copies) * static_cast<double>(rows * tokens * config.head_dim());
}

double ActivationBytes(const WanConfig& config, std::int64_t tokens, const PassSettings& pass) {
  const Sizes s(config);
  const double n = static_cast<double>(tokens), samples = static_cast<double>(pass.samples);
  const double compute = static_cast<double>(pass.compute_bytes);
  const double wide = pass.kernels == Kernels::kFused ? compute : 4;
  if (pass.backward == Backward::kNone) {
    const double attention = pass.kernels == Kernels::kFused ? 8 * compute : 4 * compute + 5 * wide;
    return samples * n * std::max(attention * s.d, compute * (2 * s.d + 2 * s.f));
  }
  const bool beside = BlocksAgain(config, pass) > 0 && (pass.keep_blocks == 0 || pass.twice);
  const double again = beside ? BlockBytes(config, tokens, pass) : 0;
  const double own = 4 * wide * n * s.d + compute * 2 * n * s.f;
  return GraphBytes(config, tokens, pass) + samples * (again + own);
}

}  // namespace sgmd
