// The videos that a model with latents is looked at by: fixed prompts of the bank, fixed noise, decoded.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "common/config/topology.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/vae/wan_vae.h"

namespace sgmd {

class PreviewSet {
 public:
  /// Opens [evaluator] vae. Takes [evaluator] videos prompts, evenly spaced over the bank, or all it has. Throws Error
  /// where the VAE is not that of the latents.
  PreviewSet(const Experiment& experiment, const Topology::Evaluator& settings, at::Device device);

  /// From `sigmas.front()` to the last one by Euler; a function of the model, the experiment's prompts and the seed of
  /// the noise, which is kSeed. float32 [1, C, F, H, W] each, on the CPU. Shows progress under `title`.
  std::vector<at::Tensor> Draw(const WanTransformer& model, const std::vector<double>& sigmas, double guidance,
                               const std::string& title) const;
  /// Pixels float32 [1, 3, F, H, W] in [-1, 1] on the CPU.
  at::Tensor Decode(const at::Tensor& latents) const;

  const std::vector<std::string>& prompts() const { return prompts_; }
  at::Device device() const { return vae_.device(); }
  double frames_per_second() const;
  /// What a model is kept and computed in here: as in training on a GPU, float32 on the CPU.
  WanPrecision precision() const;

  static constexpr std::uint64_t kSeed = 1000;

 private:
  Experiment experiment_;
  PromptBank bank_;
  WanVae vae_;
  std::vector<std::string> prompts_;
  std::vector<Digest> digests_;  // as many
};

}  // namespace sgmd
