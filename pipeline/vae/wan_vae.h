// The Wan2.1 and Wan2.2 VAEs (wan_facts §3): videos to latents and back, a chunk of frames at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <optional>

#include "pipeline/tensors/tensor_bytes.h"
#include "pipeline/vae/vae_coders.h"
#include "pipeline/vae/vae_config.h"
#include "pipeline/vae/vae_pass.h"
#include "pipeline/vae/vae_tiling.h"

namespace sgmd {

/// Pixels are RGB float32 [B, 3, F, H, W] in [-1, 1] with F = 1 + k temporal_factor and H, W divisible by
/// spatial_factor. Latents are float32 [B, z_dim, 1 + k, H / spatial_factor, W / spatial_factor], normalised: (mean -
/// latents_mean) / latents_std. float32 throughout, no gradients. Memory in use is that of one chunk (a latent frame)
/// of one video, or of one tile of it, besides input and result.
class WanVae {
 public:
  /// Parameters are allocated, not set. On the meta device they have no storage.
  explicit WanVae(const VaeConfig& config, at::Device device = at::kCPU);

  /// From a Diffusers vae/ folder, a pipeline root that has one, or a single safetensors file with original or
  /// Diffusers names (sizes from a VAE's config.json beside it, else as VaeConfig::FromTensors). Any floating dtype in
  /// the file. Throws Error on a .pth file, on a file of something else, and on anything missing, unexpected or
  /// misshapen.
  static WanVae Load(const std::filesystem::path& folder_or_file, at::Device device);

  /// From now on Encode and Decode take a frame that is larger than a tile, in either direction, in tiles. What they
  /// give then differs a little: a tile does not see beyond its edges. Smaller frames go through whole, with the same
  /// bits as without. Throws Error as VaeTiling::Validate.
  void TileSpace(const VaeTiling& tiling);

  /// The mean of the posterior. The result lies on the device of `pixels`. Throws Error on a shape that does not fit.
  at::Tensor Encode(const at::Tensor& pixels, const VaeProgress& progress = {}) const;
  /// Clamped to [-1, 1]; on the device of `latents`. Where the memory of a GPU is short, latents on the CPU keep the
  /// result there. Throws Error when the latents are another VAE's.
  at::Tensor Decode(const at::Tensor& latents, const VaeProgress& progress = {}) const;

  /// The same a chunk at a time and without tiles, for what must not lie in memory whole. `cache` starts empty and
  /// belongs to one video (or one batch) and one direction. Pixels: first 1 + k temporal_factor frames, then k
  /// temporal_factor. Latents: any number. Results on the device of the VAE; they do not depend on how the frames were
  /// divided into chunks.
  at::Tensor EncodeChunk(const at::Tensor& pixels, TimeCache& cache) const;
  at::Tensor DecodeChunk(const at::Tensor& latents, TimeCache& cache) const;

  /// Throws Error unless `shape` [B, C, F, H, W] is one of pixels, or of latents, for this VAE.
  void CheckPixels(at::IntArrayRef shape) const;
  void CheckLatents(at::IntArrayRef shape) const;

  std::int64_t channels() const { return config_.z_dim; }
  const VaeConfig& config() const { return config_; }
  at::Device device() const { return mean_.device(); }
  /// Under Diffusers names; the tensors share storage with the model.
  const NamedTensors& parameters() const { return builder_.parameters; }
  std::int64_t ParameterCount() const;

 private:
  TileGrid Grid(std::int64_t height, std::int64_t width) const;  // of the latents
  /// Patches [B, out_channels, F, H / patch_size, W / patch_size], not clamped, and the pixels that they are.
  at::Tensor DecodePatches(const at::Tensor& latents, TimeCache& cache) const;
  at::Tensor PixelsOf(const at::Tensor& patches) const;

  VaeConfig config_;
  VaeBuilder builder_;
  VaeCoder encoder_;
  CausalConv3d quant_conv_, post_quant_conv_;
  VaeCoder decoder_;
  at::Tensor mean_, std_;  // [z_dim, 1, 1, 1]
  std::filesystem::path source_;
  std::optional<VaeTiling> tiling_;  // none: whole frames
};

}  // namespace sgmd
