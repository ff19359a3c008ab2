// The fake score as a plain class of tensors, without sockets: what a fake_score process wraps, and what a
// single-process loop drives directly.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/config/experiment.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/objectives/objective.h"
#include "pipeline/parallel/collectives.h"
#include "pipeline/training/inner_samples.h"
#include "pipeline/training/role_optimizer.h"
#include "pipeline/training/state_files.h"
#include "pipeline/training/trained_model.h"
#include "pipeline/training/work.h"

namespace sgmd {

/// The fake score psi and the samples of its inner loop. Files: fake_score.model, fake_score.optimizer, and with
/// replayed samples fake_score.samples (.safetensors). In a group of ranks it is as Generator says; samples() are those
/// of rank 0, which gives the others theirs.
class FakeScore {
 public:
  /// As Generator.
  FakeScore(const Experiment& experiment, at::Device device, Recomputation recompute = {},
            const RankGroup& group = Alone());

  /// dL/dx_g of the experiment's objective; all tensors float32 CPU, shapes as in ScoredSample.
  GeneratorGradient Gradient(const at::Tensor& x_g, const at::Tensor& x_s, const at::Tensor& sigma,
                             const at::Tensor& teacher_velocity, const std::vector<Digest>& prompts);
  /// For [inner] source = paired, whose samples and noise are the generator's: Gradient of micro-batch `index` of
  /// `step`, and from the same pass of the network what Accumulate does. In order of index: the order of the sums
  /// decides their last bit.
  struct Pair {
    GeneratorGradient generator;
    double inner_loss = 0;
  };
  Pair GradientAndAccumulate(std::int64_t step, std::int64_t index, const at::Tensor& x_g, const at::Tensor& x_s,
                             const at::Tensor& sigma, const at::Tensor& teacher_velocity,
                             const std::vector<Digest>& prompts);
  /// Micro-batch `index` of inner update `update` in `step`, on samples() (which must be complete): adds the parameter
  /// gradients of the residual-contraction loss / micro_batches; returns the loss.
  double Accumulate(std::int64_t step, std::int64_t update, std::int64_t index) {
    return Accumulate(step, update, index, /*newest=*/step);
  }
  /// The same at a free pace, on samples up to those of step `newest`.
  double Accumulate(std::int64_t step, std::int64_t update, std::int64_t index, std::int64_t newest) {
    return Accumulate(step, update, index, samples_.For(step, update, index, newest));
  }
  /// The same on a sample that is given.
  double Accumulate(std::int64_t step, std::int64_t update, std::int64_t index, const InnerSample& sample);
  /// Implicit distribution alignment (wan_facts §5 "Also in LX"): psi becomes (1 - a) psi + a theta, a = [objective]
  /// alignment, without a change of the optimizer's state. `student` is what is trained of the generator, theta, whole
  /// tensors under the same names and in the same shapes (Error otherwise), on any device. In step k it is the last of
  /// all: theta has made its update of step k, psi its inner updates of step k, and nothing of step k + 1 has been
  /// computed with psi.
  void Align(const NamedTensors& student);
  /// The same of one of its tensors.
  void AlignOne(const std::string& name, const at::Tensor& theta);
  /// AdamW; clears the gradients. A step whose gradient is not finite is skipped.
  AdamW::StepReport Update();

  std::vector<std::string> SaveState(const std::filesystem::path& folder) const;
  void LoadState(const std::filesystem::path& folder);

  InnerSamples& samples() { return samples_; }
  const TrainedModel& model() const { return *model_; }
  const Work& work() const { return work_; }

 private:
  ScoredSample OnDevice(const at::Tensor& x_g, const at::Tensor& x_s, const at::Tensor& sigma,
                        const at::Tensor& teacher_velocity, const std::vector<Digest>& prompts) const;
  void CountInputBackward(std::int64_t samples);

  Experiment experiment_;
  PromptBank bank_;
  RankGroup group_;
  std::unique_ptr<TrainedModel> model_;
  StateFiles files_;
  RoleOptimizer optimizer_;
  InnerSamples samples_;
  Work work_;
};

}  // namespace sgmd
