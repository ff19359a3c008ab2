#include "pipeline/vae/wan_vae.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "common/error/error.h"

namespace sgmd {
namespace {

// Squares of pixels into channels: index c p² + r p + q with r the offset in width, q in height (wan_facts §3.2).
at::Tensor Patchify(const at::Tensor& x, std::int64_t p) {
  if (p == 1) return x;
  const auto s = x.sizes();
  return x.reshape({s[0], s[1], s[2], s[3] / p, p, s[4] / p, p})
      .permute({0, 1, 6, 4, 2, 3, 5})
      .reshape({s[0], s[1] * p * p, s[2], s[3] / p, s[4] / p});
}

at::Tensor Unpatchify(const at::Tensor& x, std::int64_t p) {
  if (p == 1) return x;
  const auto s = x.sizes();
  return x.reshape({s[0], s[1] / (p * p), p, p, s[2], s[3], s[4]})
      .permute({0, 1, 4, 5, 3, 6, 2})
      .reshape({s[0], s[1] / (p * p), s[2], s[3] * p, s[4] * p});
}

at::Tensor PerChannel(const std::vector<double>& values, const at::TensorOptions& options) {
  return at::tensor(values, at::kDouble).to(options).view({-1, 1, 1, 1});
}

VaeConfig Checked(const VaeConfig& config) {
  config.Validate("VaeConfig");
  return config;
}

}  // namespace

WanVae::WanVae(const VaeConfig& config, at::Device device)
    : config_(Checked(config)),
      builder_{at::TensorOptions(at::kFloat).device(device), {}, 0},
      encoder_(VaeCoder::Encoder(config_, builder_)),
      quant_conv_(builder_, "quant_conv", 2 * config_.z_dim, 2 * config_.z_dim, 1, 1),
      post_quant_conv_(builder_, "post_quant_conv", config_.z_dim, config_.z_dim, 1, 1),
      decoder_(VaeCoder::Decoder(config_, builder_)),
      mean_(PerChannel(config_.latents_mean, builder_.options)),
      std_(PerChannel(config_.latents_std, builder_.options)) {}

std::int64_t WanVae::ParameterCount() const {
  std::int64_t count = 0;
  for (const auto& [name, tensor] : parameters()) count += tensor.numel();
  return count;
}

void WanVae::CheckPixels(at::IntArrayRef s) const {
  if (s.size() != 5 || s[1] != config_.pixel_channels() || *std::min_element(s.begin(), s.end()) < 1) {
    throw Error(StrCat("pixels must be [videos, 3, frames, height, width], got ", s), source_.string());
  }
  const std::int64_t t = config_.temporal_factor(), p = config_.spatial_factor(), kept = (s[2] - 1) / t * t + 1;
  if (kept != s[2]) {
    throw Error(StrCat(s[2], " frames; this VAE takes 1 + ", t, " k"), source_.string(),
                StrCat("give ", kept, " or ", kept + t));
  }
  if (s[3] % p != 0 || s[4] % p != 0) {
    throw Error(StrCat("a video of ", s[4], "x", s[3], "; width and height must be divisible by ", p), source_.string(),
                StrCat("crop or scale it, such as to ", std::max(s[4] / p, std::int64_t{1}) * p, "x",
                       std::max(s[3] / p, std::int64_t{1}) * p));
  }
}

void WanVae::CheckLatents(at::IntArrayRef s) const {
  if (s.size() != 5 || *std::min_element(s.begin(), s.end()) < 1) {
    throw Error(StrCat("latents must be [videos, channels, frames, height, width], got ", s), source_.string());
  }
  if (s[1] != channels()) {
    throw Error(StrCat("wrong VAE for these latents: they have ", s[1], " channels, this VAE has ", channels()),
                source_.string(), StrCat(s[1], " channels belong to ", VaeOfChannels(s[1])));
  }
}

void WanVae::TileSpace(const VaeTiling& tiling) {
  tiling.Validate(config_.spatial_factor(), source_.string());
  tiling_ = tiling;
}

TileGrid WanVae::Grid(std::int64_t height, std::int64_t width) const {
  return tiling_ ? TileGrid::Of(*tiling_, config_.spatial_factor(), height, width) : TileGrid::Whole(height, width);
}

at::Tensor WanVae::EncodeChunk(const at::Tensor& pixels, TimeCache& cache) const {
  const c10::NoGradGuard no_grad;
  at::Tensor x = Patchify(pixels.to(builder_.options), config_.patch_size);
  x = quant_conv_.Forward(encoder_.Forward(std::move(x), cache), cache);
  return x.narrow(1, 0, channels()).sub(mean_).div_(std_);
}

at::Tensor WanVae::DecodePatches(const at::Tensor& latents, TimeCache& cache) const {
  const c10::NoGradGuard no_grad;
  at::Tensor x = post_quant_conv_.Forward(latents.to(builder_.options).mul(std_).add_(mean_), cache);
  return decoder_.Forward(std::move(x), cache);
}

at::Tensor WanVae::PixelsOf(const at::Tensor& patches) const {
  return Unpatchify(patches, config_.patch_size).clamp_(-1, 1);
}

at::Tensor WanVae::DecodeChunk(const at::Tensor& latents, TimeCache& cache) const {
  return PixelsOf(DecodePatches(latents, cache));
}

at::Tensor WanVae::Encode(const at::Tensor& pixels, const VaeProgress& progress) const {
  CheckPixels(pixels.sizes());
  const std::int64_t space = config_.spatial_factor(), time = config_.temporal_factor();
  const std::int64_t height = pixels.size(3) / space, width = pixels.size(4) / space;
  const VaePass pass{.first_frames = 1,
                     .more_frames = time,
                     .in = space,
                     .coded = 1,
                     .out = 1,
                     .result = {pixels.size(0), channels(), 1 + (pixels.size(2) - 1) / time, height, width},
                     .code = [this](const at::Tensor& chunk, TimeCache& cache) { return EncodeChunk(chunk, cache); },
                     .finish = [](const at::Tensor& latents) { return latents; }};
  return RunVideos(pass, Grid(height, width), pixels, progress);
}

at::Tensor WanVae::Decode(const at::Tensor& latents, const VaeProgress& progress) const {
  CheckLatents(latents.sizes());
  const std::int64_t space = config_.spatial_factor(), height = latents.size(3), width = latents.size(4);
  const std::int64_t frames = 1 + (latents.size(2) - 1) * config_.temporal_factor();
  // As in diffusers, tiles of the 2.2 VAE are blended before its patches become pixels, and all before the clamp.
  const VaePass pass{.first_frames = 1,
                     .more_frames = 1,
                     .in = 1,
                     .coded = space / config_.patch_size,
                     .out = space,
                     .result = {latents.size(0), config_.pixel_channels(), frames, height * space, width * space},
                     .code = [this](const at::Tensor& chunk, TimeCache& cache) { return DecodePatches(chunk, cache); },
                     .finish = [this](const at::Tensor& patches) { return PixelsOf(patches); }};
  return RunVideos(pass, Grid(height, width), latents, progress);
}

}  // namespace sgmd
