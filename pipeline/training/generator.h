// The generator as a plain class of tensors, without sockets: what a generator process wraps, and what a single-process
// loop drives directly.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/config/experiment.h"
#include "common/storage/model_folder.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/data/sample_plan.h"
#include "pipeline/parallel/collectives.h"
#include "pipeline/training/role_optimizer.h"
#include "pipeline/training/state_files.h"
#include "pipeline/training/trained_model.h"
#include "pipeline/training/work.h"

namespace sgmd {

/// The student theta. With [lora] rank > 0 only adapters are trained, averaged and kept in checkpoints. Files:
/// generator.model, generator.optimizer, generator.ema (.safetensors).
///
/// In a group of ranks each has a shard of it. All make the same calls in the same order, each with a micro-batch of
/// its own, or that of the ranks with which it shares tokens: in order of rank, those that the group has at once.
class Generator {
 public:
  /// Starts from [model] student. `recompute`: see TrainedModel::Start.
  Generator(const Experiment& experiment, at::Device device, Recomputation recompute = {},
            const RankGroup& group = Alone());

  /// What Accumulate needs of a rollout, on the role's device.
  struct Exit {
    at::Tensor x;         // input of the exit step [B, C, F, H, W]
    at::Tensor x_g = {};  // with the graph of the exit step, where that is kept; else undefined
  };
  struct Rollout {
    Exit exit;
    at::Tensor x_g;  // x_e - s_e v(x_e), float32 CPU
  };
  /// From sigma 1 to the exit step without gradient: by Euler, or with new noise at each step (RenoiseSample), as
  /// [schedule] rollout says. Both make the same passes of the network. `keep_graph`: the exit step's graph is kept,
  /// for one Accumulate before the next Update; x_g has the same bits either way. `passes`: the largest exit step of
  /// the group's rollouts, whose passes this rank takes part in; 0: none has a larger one.
  Rollout RollOut(const SamplePlan& plan, bool keep_graph = false, std::int64_t passes = 0);
  /// Adds the parameter gradients of <dL/dx_g, x_g> / LandedMicroBatches. Runs the exit step again, with the weights of
  /// now, unless its graph was kept.
  void Accumulate(const SamplePlan& plan, const Exit& exit, const at::Tensor& gradient);
  /// Adds the parameter gradients of the diversity loss / micro_batches; a forward and backward of its own. x_a float32
  /// CPU as Teacher::Anchor gives it. Returns the loss. In a step it comes before Accumulate: the order of sums decides
  /// their last bit.
  double AccumulateDiversity(const AnchorPlan& plan, const at::Tensor& x_a);
  /// AdamW and EMA; clears the gradients. A step whose gradient is not finite is skipped.
  AdamW::StepReport Update();

  /// Names of this rank's state files, written into a checkpoint folder.
  std::vector<std::string> SaveState(const std::filesystem::path& folder) const;
  /// From the files of any number of ranks.
  void LoadState(const std::filesystem::path& folder);
  /// The finished student (EMA weights if there are any, adapters merged) as a model folder in float32; created, by
  /// rank 0. Of two experts a folder each, as in original repositories; one that was not trained is a link to where it
  /// is.
  void SaveStudent(const std::filesystem::path& folder) const;

  const PromptBank& bank() const { return bank_; }
  const TrainedModel& model() const { return *model_; }
  const Work& work() const { return work_; }

 private:
  at::Tensor ExitInput(const SamplePlan& plan);
  at::Tensor ExitStep(const SamplePlan& plan, const at::Tensor& x_exit);
  // `weights`: of all that is trained.
  void SaveExpert(const Expert& expert, const NamedTensors& weights, const std::filesystem::path& folder) const;

  Experiment experiment_;
  PromptBank bank_;
  RankGroup group_;
  std::unique_ptr<TrainedModel> model_;
  StateFiles files_;
  std::vector<double> sigmas_;
  RoleOptimizer optimizer_;
  Work work_;
};

}  // namespace sgmd
