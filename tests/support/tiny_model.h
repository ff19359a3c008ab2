// Models with random weights, also in the head, whose initial zeros would make every gradient zero.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "pipeline/flow/random.h"
#include "pipeline/models/wan_transformer.h"
#include "tests/support/tiny_config.h"

namespace sgmd {

inline WanTransformer RandomModel(const WanConfig& config, WanPrecision precision = {}, at::Device device = at::kCPU) {
  WanTransformer model(config, device, precision);
  model.Initialise(1);
  const c10::NoGradGuard no_grad;
  for (const auto& [name, p] : model.parameters()) {
    if (name == "head.head.weight") p.copy_(Noise(p.sizes(), 2));
  }
  return model;
}

/// Inputs of Forward for TinyWanConfig, of two samples.
struct TinyInputs {
  at::Tensor x = Noise({2, 2, 2, 4, 4}, 3);
  at::Tensor sigma = at::tensor({0.4F, 0.8F});
  at::Tensor context = Noise({2, 4, 6}, 4);
};

}  // namespace sgmd
