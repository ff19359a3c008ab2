// The three roles as plain classes of tensors, without sockets: what a teacher, fake_score and generator process wraps,
// and what a single-process loop can drive directly.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "common/config/experiment.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/flow/sample_plan.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/objectives/objective.h"
#include "pipeline/training/adamw.h"
#include "pipeline/training/inner_samples.h"
#include "pipeline/training/work.h"

namespace sgmd {

/// The frozen teacher phi: guided velocity u + w (c - u). A pure function of its inputs, bitwise independent of
/// threads.
class Teacher {
 public:
  Teacher(const Experiment& experiment, at::Device device);
  /// x_s [B, C, F, H, W] and sigma [B] on the CPU -> velocity of the same shape, float32 CPU.
  at::Tensor Score(const at::Tensor& x_s, const at::Tensor& sigma, const std::vector<Digest>& prompts);
  /// The anchor x_a of the diversity loss (pipeline/objectives/diversity.h) from `noise` [B, C, F, H, W] at sigma 1.
  at::Tensor Anchor(const at::Tensor& noise, const std::vector<Digest>& prompts);
  const Work& work() const { return work_; }

 private:
  PromptBank bank_;
  WanTransformer model_;
  double guidance_;
  std::vector<double> anchor_sigmas_;
  Work work_;
};

/// The student theta. With [lora] rank > 0 only adapters are trained, averaged and kept in checkpoints. Files:
/// generator.model, generator.optimizer, generator.ema (.safetensors).
class Generator {
 public:
  /// Starts from the teacher's weights. `checkpoint_blocks`: see WanTransformer::SetBlockCheckpointing.
  Generator(const Experiment& experiment, at::Device device, bool checkpoint_blocks = false);

  struct Rollout {
    at::Tensor x_exit;  // input of the exit step [B, C, F, H, W], on the role's device; kept for Accumulate
    at::Tensor x_g;     // x_e - s_e v(x_e), float32 CPU
  };
  /// Euler from sigma 1 to the exit step, no gradient.
  Rollout RollOut(const SamplePlan& plan);
  /// Re-runs the exit step with gradient and adds the parameter gradients of <dL/dx_g, x_g> / micro_batches.
  void Accumulate(const SamplePlan& plan, const at::Tensor& x_exit, const at::Tensor& gradient);
  /// Adds the parameter gradients of the diversity loss / micro_batches; a forward and backward of its own. x_a float32
  /// CPU as Teacher::Anchor gives it. Returns the loss. In a step it comes before Accumulate: the order of sums decides
  /// their last bit.
  double AccumulateDiversity(const AnchorPlan& plan, const at::Tensor& x_a);
  /// AdamW and EMA; clears the gradients. A step whose gradient is not finite is skipped.
  AdamW::StepReport Update();

  /// Names of the state files, written into and read from a checkpoint folder.
  std::vector<std::string> SaveState(const std::filesystem::path& folder) const;
  void LoadState(const std::filesystem::path& folder);
  /// The finished student (EMA weights if there are any, adapters merged) as a model folder in float32; created.
  void SaveStudent(const std::filesystem::path& folder) const;

  const PromptBank& bank() const { return bank_; }
  const WanTransformer& model() const { return model_; }
  const Work& work() const { return work_; }

 private:
  at::Tensor ExitStep(const SamplePlan& plan, const at::Tensor& x_exit);
  at::Tensor Context(const SamplePlan& plan) const;

  Experiment experiment_;
  PromptBank bank_;
  WanTransformer model_;
  std::vector<double> sigmas_;
  AdamW optimizer_;
  std::optional<Ema> ema_;
  Work work_;
};

/// The fake score psi and the samples of its inner loop. Files: fake_score.model, fake_score.optimizer, and with
/// replayed samples fake_score.samples (.safetensors).
class FakeScore {
 public:
  /// Starts from the teacher's weights.
  FakeScore(const Experiment& experiment, at::Device device, bool checkpoint_blocks = false);

  /// dL/dx_g of the experiment's objective; all tensors float32 CPU, shapes as in ScoredSample.
  GeneratorGradient Gradient(const at::Tensor& x_g, const at::Tensor& x_s, const at::Tensor& sigma,
                             const at::Tensor& teacher_velocity, const std::vector<Digest>& prompts);
  /// Micro-batch `index` of inner update `update` in `step`, on samples() (which must be complete): adds the parameter
  /// gradients of the residual-contraction loss / micro_batches; returns the loss.
  double Accumulate(std::int64_t step, std::int64_t update, std::int64_t index);
  /// AdamW; clears the gradients. A step whose gradient is not finite is skipped.
  AdamW::StepReport Update();

  std::vector<std::string> SaveState(const std::filesystem::path& folder) const;
  void LoadState(const std::filesystem::path& folder);

  InnerSamples& samples() { return samples_; }
  const WanTransformer& model() const { return model_; }
  const Work& work() const { return work_; }

 private:
  at::Tensor Context(const std::vector<Digest>& prompts) const;

  Experiment experiment_;
  PromptBank bank_;
  WanTransformer model_;
  AdamW optimizer_;
  InnerSamples samples_;
  Work work_;
};

}  // namespace sgmd
