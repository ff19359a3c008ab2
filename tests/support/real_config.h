// Sizes of the published models (wan_facts §1.1) and their latents (§7).
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/models/wan_config.h"

namespace sgmd {

inline WanConfig RealConfig(std::int64_t dim, std::int64_t heads, std::int64_t layers, std::int64_t ffn,
                            std::int64_t channels) {
  WanConfig c;
  c.dim = dim;
  c.num_heads = heads;
  c.num_layers = layers;
  c.ffn_dim = ffn;
  c.in_dim = c.out_dim = channels;
  return c;
}

/// A model for image-to-video of 14B; `image_dim`: 1280 of Wan2.1, 0 of an expert of Wan2.2-A14B.
inline WanConfig RealImageConfig(std::int64_t image_dim) {
  WanConfig c = RealConfig(5120, 40, 40, 13824, 16);
  c.model_type = "i2v";
  c.in_dim = 36;
  c.image_dim = image_dim;
  return c;
}

inline const WanConfig kWan1_3B = RealConfig(1536, 12, 30, 8960, 16);
inline const WanConfig kWan14B = RealConfig(5120, 40, 40, 13824, 16);
inline const WanConfig kWan5B = RealConfig(3072, 24, 30, 14336, 48);
inline const WanConfig kWanI2V14B = RealImageConfig(1280);
inline const WanConfig kWanI2VA14B = RealImageConfig(0);

inline const std::vector<std::int64_t> kLatent480p{16, 21, 60, 104};  // 81 frames of 480 x 832
inline const std::vector<std::int64_t> kLatent720p{16, 21, 90, 160};  // 81 frames of 720 x 1280
inline const std::vector<std::int64_t> kLatent5B{48, 31, 44, 80};     // 121 frames of 704 x 1280

}  // namespace sgmd
