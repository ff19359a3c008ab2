// Integration of many videos from noise to clean latents, a few at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "nodes/sampler/model_parts.h"
#include "pipeline/flow/unipc.h"
#include "pipeline/flow/velocity_model.h"

namespace sgmd {

/// The new noise of a step, from 1, of a video, from 0: float32 on the CPU, of `shape` [C, F, H, W].
using VideoNoise = std::function<at::Tensor(at::IntArrayRef shape, std::int64_t video, std::int64_t step)>;

struct TrajectoryOptions {
  StepGrid grid;
  bool unipc = true;             // else Euler, or
  VideoNoise step_noise;         // set: RenoiseStep
  std::vector<double> guidance;  // one for each expert
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // what models are kept and computed in; samples and solver stay float32
  bool keep = false;                  // every sample on the way, not only the last
};

/// Samples at every sigma of the grid (or at the last one only), each [B, C, F, H, W] float32 on the CPU.
/// `noise` likewise; `condition` of B videos; `negative`, of which the text alone is read, [B or 1, text_len,
/// text_dim], or undefined where no guidance differs from 1. Experts are loaded one after the other, each once.
/// `progress(done, total)` is told network steps, first 0 when the first model is there.
std::vector<at::Tensor> Integrate(const std::vector<Expert>& experts, const TrajectoryOptions& options,
                                  const at::Tensor& noise, const Conditioning& condition, const at::Tensor& negative,
                                  const std::function<void(std::int64_t, std::int64_t)>& progress);

}  // namespace sgmd
