// A transformer that is run as it is, on one rank of a group.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>

#include "pipeline/flow/velocity_model.h"
#include "pipeline/models/offloaded_wan.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/parallel/collectives.h"
#include "pipeline/parallel/sharded_wan.h"

namespace sgmd {

/// In a group of one it is a WanTransformer, or with `offload` an OffloadedWan; in a larger one a ShardedWan without
/// its sequence ranks. All three compute the same bits. All ranks make the same passes in the same order, each with
/// samples of its own.
class FrozenModel : public VelocityModel {
 public:
  /// As WanTransformer::Load. `offload`: in a group of one only.
  FrozenModel(const std::filesystem::path& model, WanPrecision precision, at::Device device, const RankGroup& group,
              bool offload = false);

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override;
  /// Takes part in a forward pass of the others. By the ranks that have no sample in it.
  void SkipForward() const;

  const WanConfig& config() const {
    return whole_ ? whole_->config() : offloaded_ ? offloaded_->config() : shard_->config();
  }

 private:
  std::shared_ptr<Collectives> group_;
  std::unique_ptr<WanTransformer> whole_;    // in a group of one
  std::unique_ptr<OffloadedWan> offloaded_;  // likewise
  std::unique_ptr<ShardedWan> shard_;        // in a larger one
};

}  // namespace sgmd
