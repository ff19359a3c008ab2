// The videos that a model with latents is looked at by: fixed prompts of the bank, fixed noise, decoded.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "common/config/topology.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/flow/guidance.h"
#include "pipeline/flow/velocity_model.h"
#include "pipeline/models/wan_experts.h"
#include "pipeline/vae/wan_vae.h"

namespace sgmd {

class PreviewSet {
 public:
  /// Opens [evaluator] vae, which takes frames in tiles where [evaluator] vae_tile says so. Takes [evaluator] videos
  /// prompts, evenly spaced over the bank, or all it has. Throws Error where the VAE is not that of the latents, or has
  /// no tiles of that size.
  PreviewSet(const Experiment& experiment, const Topology::Evaluator& settings, at::Device device);

  /// The teacher from `sigmas.front()` to the last one by Euler; a function of the model, the experiment's prompts and
  /// the seed of the noise, which is kSeed. float32 [1, C, F, H, W] each, on the CPU. Shows progress under `title`.
  std::vector<at::Tensor> Draw(const WanExperts& model, const std::vector<double>& sigmas, const Guidance& guidance,
                               const std::string& title) const;
  /// The same of a student as it was trained: its own grid, [schedule] rollout, no guidance.
  std::vector<at::Tensor> DrawStudent(const WanExperts& student, const std::string& title) const;
  /// Pixels float32 [1, 3, F, H, W] in [-1, 1] on the CPU.
  at::Tensor Decode(const at::Tensor& latents) const;

  const std::vector<std::string>& prompts() const { return prompts_; }
  at::Device device() const { return vae_.device(); }
  double frames_per_second() const;
  /// What a model is kept and computed in here: as in training on a GPU, float32 on the CPU.
  WanPrecision precision() const;

  static constexpr std::uint64_t kSeed = 1000;

 private:
  // Of one video, from its initial noise.
  using Sampler = std::function<at::Tensor(std::int64_t video, const at::Tensor& noise, const Conditioning& condition,
                                           const std::function<void(std::int64_t)>& on_step)>;
  std::vector<at::Tensor> DrawEach(const WanExperts& model, std::int64_t steps, const std::string& title,
                                   const Sampler& sample) const;

  Experiment experiment_;
  PromptBank bank_;
  WanVae vae_;
  at::Device decoded_on_;  // what is decoded; the CPU with tiles, which are for a GPU whose memory is short
  std::vector<std::string> prompts_;
  std::vector<Digest> digests_;  // as many
};

}  // namespace sgmd
