// Wan VAEs small enough for a test, with random weights.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <filesystem>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/flow/random.h"
#include "pipeline/vae/wan_vae.h"

namespace sgmd {

/// The 2.1 form, or with `residual` the 2.2 form, at 4 base channels.
inline VaeConfig TinyVaeConfig(bool residual) {
  VaeConfig c = residual ? VaeConfig::Wan22() : VaeConfig::Wan21();
  c.base_dim = c.decoder_base_dim = 4;
  return c;
}

inline WanVae TinyVae(bool residual, std::uint64_t seed = 1) {
  WanVae vae(TinyVaeConfig(residual));
  for (std::size_t i = 0; i < vae.parameters().size(); ++i) {
    const auto& [name, p] = vae.parameters()[i];
    const at::Tensor noise = Noise(p.sizes(), SeedFor(seed, 0, static_cast<std::int64_t>(i), "tiny_vae"));
    p.copy_(name.ends_with("gamma")  ? 1 + 0.3 * noise
            : name.ends_with("bias") ? 0.1 * noise
                                     : noise / std::sqrt(static_cast<double>(p[0].numel())));
  }
  return vae;
}

/// Writes `vae` as a Diffusers vae/ folder.
inline void SaveTinyVae(const WanVae& vae, const std::filesystem::path& folder) {
  const VaeConfig& c = vae.config();
  std::filesystem::create_directories(folder);
  SaveTensors(folder / "diffusion_pytorch_model.safetensors", vae.parameters());
  std::string mean, std;
  for (std::size_t i = 0; i < c.latents_mean.size(); ++i) {
    mean += StrCat(i == 0 ? "" : ",", c.latents_mean[i]);
    std += StrCat(i == 0 ? "" : ",", c.latents_std[i]);
  }
  WriteFileAtomically(
      folder / "config.json",
      StrCat("{\"_class_name\":\"AutoencoderKLWan\",\"base_dim\":", c.base_dim,
             ",\"decoder_base_dim\":null,\"z_dim\":", c.z_dim, ",\"is_residual\":", c.is_residual ? "true" : "false",
             ",\"in_channels\":", c.in_channels, ",\"out_channels\":", c.out_channels, ",\"patch_size\":", c.patch_size,
             ",\"latents_mean\":[", mean, "],\"latents_std\":[", std, "]}"));
}

}  // namespace sgmd
