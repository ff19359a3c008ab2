// The teacher as a plain class of tensors, without sockets: what a teacher process wraps, and what a single-process
// loop drives directly.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "common/config/experiment.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/training/work.h"

namespace sgmd {

/// The frozen teacher phi: guided velocity u + w (c - u). A pure function of its inputs, bitwise independent of
/// threads.
class Teacher {
 public:
  Teacher(const Experiment& experiment, at::Device device);
  /// x_s [B, C, F, H, W] and sigma [B] on the CPU -> velocity of the same shape on the CPU, in [precision] scores.
  at::Tensor Score(const at::Tensor& x_s, const at::Tensor& sigma, const std::vector<Digest>& prompts);
  /// The anchor x_a of the diversity loss (pipeline/objectives/diversity.h) from `noise` [B, C, F, H, W] at sigma 1.
  at::Tensor Anchor(const at::Tensor& noise, const std::vector<Digest>& prompts);
  const Work& work() const { return work_; }

 private:
  Conditioning Negative(std::int64_t batch) const;

  PromptBank bank_;
  WanTransformer model_;
  double guidance_;
  at::ScalarType scores_;
  std::vector<double> anchor_sigmas_;
  Work work_;
};

}  // namespace sgmd
