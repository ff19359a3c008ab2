// The smallest Wan transformer that still has every part.
#pragma once

#include "pipeline/models/wan_config.h"

namespace sgmd {

inline WanConfig TinyWanConfig(std::int64_t layers) {
  WanConfig c;
  c.in_dim = c.out_dim = 2;
  c.dim = 12;
  c.ffn_dim = 16;
  c.freq_dim = 8;
  c.text_dim = 6;
  c.text_len = 4;
  c.num_heads = 2;
  c.num_layers = layers;
  c.patch_size = {1, 2, 2};
  return c;
}

/// The same for image-to-video, with CLIP tokens of width `image_dim`, or none with 0.
inline WanConfig TinyImageConfig(std::int64_t layers, std::int64_t image_dim) {
  WanConfig c = TinyWanConfig(layers);
  c.model_type = "i2v";
  c.in_dim = 2 * c.out_dim + WanConfig::kMaskChannels;
  c.image_dim = image_dim;
  return c;
}

}  // namespace sgmd
