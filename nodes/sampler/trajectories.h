// Integration of many videos from noise to clean latents, a few at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "nodes/sampler/model_parts.h"
#include "pipeline/flow/unipc.h"

namespace sgmd {

struct TrajectoryOptions {
  StepGrid grid;
  bool unipc = true;             // else Euler
  std::vector<double> guidance;  // one for each expert
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // what models are kept and computed in; samples and solver stay float32
  bool keep = false;                  // every sample on the way, not only the last
};

/// Samples at every sigma of the grid (or at the last one only), each [B, C, F, H, W] float32 on the CPU.
/// `noise` likewise; `context` [B, text_len, text_dim]; `negative` [B or 1, text_len, text_dim], or undefined where no
/// guidance differs from 1. Experts are loaded one after the other, each once. `progress(done, total)` is told network
/// steps, first 0 when the first model is there.
std::vector<at::Tensor> Integrate(const std::vector<Expert>& experts, const TrajectoryOptions& options,
                                  const at::Tensor& noise, const at::Tensor& context, const at::Tensor& negative,
                                  const std::function<void(std::int64_t, std::int64_t)>& progress);

}  // namespace sgmd
