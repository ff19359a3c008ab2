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

// Runs one video after the other through `run`, in chunks of frames that begin at 0, first, first + step, ..., into one tensor.
at::Tensor InChunks(const at::Tensor& x, std::int64_t first, std::int64_t step, const VaeProgress& progress,
                    const std::function<at::Tensor(const at::Tensor&, TimeCache&)>& run) {
  const std::int64_t chunks = 1 + (x.size(2) - first) / step, total = x.size(0) * chunks;
  std::vector<at::Tensor> videos;
  for (std::int64_t b = 0; b < x.size(0); ++b) {
    TimeCache cache;
    std::vector<at::Tensor> parts;
    for (std::int64_t k = 0; k < chunks; ++k) {
      const at::Tensor chunk = x.narrow(0, b, 1).narrow(2, k == 0 ? 0 : first + (k - 1) * step, k == 0 ? first : step);
      parts.push_back(run(chunk, cache).to(x.device()));
      if (progress) progress(b * chunks + k + 1, total);
    }
    videos.push_back(at::cat(parts, 2));
  }
  return videos.size() == 1 ? videos.front() : at::cat(videos, 0);
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
    throw Error(StrCat(s[2], " frames; this VAE takes 1 + ", t, " k"), source_.string(), StrCat("give ", kept, " or ", kept + t));
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
    throw Error(StrCat("wrong VAE for these latents: they have ", s[1], " channels, this VAE has ", channels()), source_.string(),
                StrCat(s[1], " channels belong to ", VaeOfChannels(s[1])));
  }
}

at::Tensor WanVae::EncodeChunk(const at::Tensor& pixels, TimeCache& cache) const {
  const c10::NoGradGuard no_grad;
  at::Tensor x = Patchify(pixels.to(builder_.options), config_.patch_size);
  x = quant_conv_.Forward(encoder_.Forward(std::move(x), cache), cache);
  return x.narrow(1, 0, channels()).sub(mean_).div_(std_);
}

at::Tensor WanVae::DecodeChunk(const at::Tensor& latents, TimeCache& cache) const {
  const c10::NoGradGuard no_grad;
  at::Tensor x = post_quant_conv_.Forward(latents.to(builder_.options).mul(std_).add_(mean_), cache);
  return Unpatchify(decoder_.Forward(std::move(x), cache), config_.patch_size).clamp_(-1, 1);
}

at::Tensor WanVae::Encode(const at::Tensor& pixels, const VaeProgress& progress) const {
  CheckPixels(pixels.sizes());
  return InChunks(pixels, 1, config_.temporal_factor(), progress,
                  [this](const at::Tensor& chunk, TimeCache& cache) { return EncodeChunk(chunk, cache); });
}

at::Tensor WanVae::Decode(const at::Tensor& latents, const VaeProgress& progress) const {
  CheckLatents(latents.sizes());
  return InChunks(latents, 1, 1, progress,
                  [this](const at::Tensor& chunk, TimeCache& cache) { return DecodeChunk(chunk, cache); });
}

}  // namespace sgmd
