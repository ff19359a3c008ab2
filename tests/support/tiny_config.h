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

}  // namespace sgmd
