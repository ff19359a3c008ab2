// Sizes of a Wan VAE (wan_facts §3), read from the Diffusers config.json of AutoencoderKLWan or recognised from the tensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/storage/sharded_safetensors.h"

namespace sgmd {

/// Keys of the Diffusers config.json under their own names, except `temporal_downsample` (there "temperal_downsample").
/// scale_factor_temporal and scale_factor_spatial are not read: temporal_factor() and spatial_factor() follow from the rest.
struct VaeConfig {
  std::int64_t base_dim = 96;          // channels of the encoder's first stage
  std::int64_t decoder_base_dim = 96;  // channels of the decoder's last stage
  std::int64_t z_dim = 16;             // latent channels
  std::vector<std::int64_t> dim_mult{1, 2, 4, 4};  // channels of each stage in base_dims; one spatial halving between stages
  std::int64_t num_res_blocks = 2;                 // a stage in the encoder; the decoder has one more
  std::vector<double> attn_scales;                 // plain encoder: attention behind each block at these scales (1, 0.5, ...)
  std::vector<bool> temporal_downsample{false, true, true};  // one between two stages: is time halved there too?
  bool is_residual = false;                        // the 2.2 form: nested stages with parameter-free shortcuts
  std::int64_t in_channels = 3, out_channels = 3;  // pixel channels times patch_size squared
  std::int64_t patch_size = 1;                     // pixels of a square folded into channels before the encoder
  std::vector<double> latents_mean, latents_std;   // z_dim each, std > 0

  /// Pixel frames a latent frame, after the first, which stands for one: 4.
  std::int64_t temporal_factor() const;
  /// Pixels a latent pixel along height and along width: 8 (2.1) or 16 (2.2).
  std::int64_t spatial_factor() const;
  std::int64_t stages() const { return static_cast<std::int64_t>(dim_mult.size()); }
  std::int64_t pixel_channels() const { return in_channels / (patch_size * patch_size); }

  /// The released models: 16 channels, 4 x 8 x 8 (every Wan model but the 5B), and 48 channels, 4 x 16 x 16 (TI2V-5B).
  static VaeConfig Wan21();
  static VaeConfig Wan22();
  /// Absent keys have the values of Wan2.1, as in Diffusers. Throws Error naming file and key.
  static VaeConfig FromFile(const std::filesystem::path& path);
  /// For a file without config.json, original or Diffusers names: 16 latent channels say 2.1, 48 say 2.2; base_dim and
  /// decoder_base_dim are read off the tensors. Throws Error when it is neither.
  static VaeConfig FromTensors(const ShardedSafetensors& file);
  /// Throws Error unless sizes are positive and fit together.
  void Validate(const std::string& where) const;
};

/// Which VAE belongs to latents of so many channels, for error messages: "the Wan2.1 VAE (every model but TI2V-5B)".
std::string VaeOfChannels(std::int64_t channels);

}  // namespace sgmd
