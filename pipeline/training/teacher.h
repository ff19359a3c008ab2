// The teacher as a plain class of tensors, without sockets: what a teacher process wraps, and what a single-process
// loop drives directly.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "common/config/experiment.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/flow/guidance.h"
#include "pipeline/parallel/collectives.h"
#include "pipeline/training/frozen_model.h"
#include "pipeline/training/work.h"

namespace sgmd {

/// The frozen teacher phi: guided velocity u + w (c - u). A pure function of its inputs, bitwise independent of
/// threads and of the number of ranks. In a group every rank has a shard of the model and micro-batches of its own: all
/// make the same calls in the same order, a rank that has no micro-batch those that skip it. Of two experts it has
/// those of ExpertsOf(experiment, teacher); a micro-batch is for one of them.
class Teacher {
 public:
  /// `offload`: in a group of one, with the blocks of its experts in the host's memory.
  Teacher(const Experiment& experiment, at::Device device, const RankGroup& group = Alone(), bool offload = false);
  /// x_s [B, C, F, H, W] and sigma [B] on the CPU -> velocity of the same shape on the CPU, in [precision] scores.
  at::Tensor Score(const at::Tensor& x_s, const at::Tensor& sigma, const std::vector<Digest>& prompts);
  /// The same in a group, where `asked` says which experts the micro-batches of its ranks are for (Asked): those run
  /// one after the other, each by the ranks whose micro-batch is for it.
  at::Tensor Score(const at::Tensor& x_s, const at::Tensor& sigma, const std::vector<Digest>& prompts,
                   std::int64_t asked);
  /// A bit for each expert that one of the noise levels [B] is for.
  std::int64_t Asked(const std::vector<at::Tensor>& sigmas) const;
  /// The anchor x_a of the diversity loss (pipeline/objectives/diversity.h) from `noise` [B, C, F, H, W] at sigma 1.
  at::Tensor Anchor(const at::Tensor& noise, const std::vector<Digest>& prompts);
  void SkipScore(std::int64_t asked) const;
  void SkipAnchor() const;

  /// The dtype of scores.
  at::ScalarType scores() const { return scores_; }
  const Work& work() const { return work_; }

 private:
  class Routed;  // the experts as one network

  Conditioning ConditionOn(const std::vector<Digest>& prompts) const;
  Conditioning Negative(std::int64_t batch) const;

  PromptBank bank_;
  std::vector<double> min_sigmas_;                     // of the model's transformers
  std::vector<std::unique_ptr<FrozenModel>> experts_;  // null: never asked for
  WanConfig config_;
  at::Device device_;
  Guidance guidance_;
  at::ScalarType scores_;
  std::vector<double> anchor_sigmas_;
  Work work_;
};

}  // namespace sgmd
