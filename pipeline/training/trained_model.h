// The network of a trained role, on one rank of the role's group: one transformer, or two experts by noise level.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/experiment.h"
#include "common/config/topology.h"
#include "pipeline/flow/velocity_model.h"
#include "pipeline/models/checkpointing.h"
#include "pipeline/models/wan_config.h"
#include "pipeline/parallel/collectives.h"
#include "pipeline/parallel/sharded_parameters.h"
#include "pipeline/training/adamw.h"
#include "pipeline/training/state_files.h"

namespace sgmd {

/// What a role's backward pass computes again, as its topology says.
inline Recomputation RecomputationOf(const Topology::TrainedRole& role) {
  return {role.checkpoint_blocks, role.keeps_attention(), std::max<std::int64_t>(role.keep_blocks, 0)};
}

/// What an optimizer updates by itself: all that is trained of one transformer.
struct TrainedPart {
  std::string prefix;    // of its tensors' names in trained(): "<expert>." of one of two, else empty
  NamedTensors trained;  // those of trained()
  GradientNorm norm;     // of the gradients of the whole part, of which a rank has its own; by all ranks
};

/// In a group of one it is a WanTransformer; in a larger one a ShardedWan, which computes the same bits. All ranks make
/// the same passes, and call what says so, in the same order. Of two experts (ExpertsOf the role) a pass runs the one
/// that its noise level is for, the same on all ranks, and tensors are called "<expert>.<name>".
class TrainedModel : public VelocityModel {
 public:
  /// Starts from the weights of ModelOf(experiment, role), of its experts from those that the role holds: all of it
  /// trainable with float32 masters, or with [lora] adapters over a frozen base. The role's name is the purpose of the
  /// adapters' draws. `recompute`: as of WanTransformer::SetBlockCheckpointing; shards always run their blocks
  /// again, but those that are kept.
  static std::unique_ptr<TrainedModel> Start(const Experiment& experiment, at::Device device, Recomputation recompute,
                                             Role role, const RankGroup& group);

  virtual const WanConfig& config() const = 0;
  virtual at::Device device() const = 0;
  /// Of what is trained.
  virtual void SetRequiresGrad(bool requires_grad) = 0;
  /// What this rank holds of what is trained, float32: the optimizer's parameters.
  virtual const NamedTensors& trained() const = 0;
  /// Where those lie in the model's tensors.
  virtual ParameterPlaces Places() const = 0;
  /// One, or one for each expert that is trained, in the order of trained().
  virtual std::vector<TrainedPart> Parts() const = 0;
  /// Whether a pass that the part gets gradients from was made since the last call; the same on all ranks. Of one
  /// transformer always.
  virtual std::vector<bool> TakeUsed() = 0;
  /// Takes part in a forward pass of the others at `sigma` without gradients. By the ranks that have no sample in it.
  virtual void SkipForward(double sigma) const = 0;
  /// Shows every trained tensor of the model by its name, in the order of the model's, of `tensors` that lie as
  /// trained() does. By all ranks.
  virtual void ForEachWhole(const NamedTensors& tensors, const NamedTensorVisitor& visit) const = 0;

  /// Whether adapters are trained over a frozen base.
  bool adapted() const { return adapted_; }
  /// Whether a backward pass runs blocks again.
  bool recomputes() const { return recomputes_; }

 protected:
  TrainedModel(bool adapted, bool recomputes) : adapted_(adapted), recomputes_(recomputes) {}

 private:
  bool adapted_, recomputes_;
};

}  // namespace sgmd
