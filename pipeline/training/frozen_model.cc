#include "pipeline/training/frozen_model.h"

namespace sgmd {

FrozenModel::FrozenModel(const std::filesystem::path& model, WanPrecision precision, at::Device device,
                         const RankGroup& group, bool offload)
    : group_(group.device) {
  TORCH_INTERNAL_ASSERT(!offload || group.ranks() == 1);
  if (offload) {
    offloaded_ = std::make_unique<OffloadedWan>(OffloadedWan::Load(model, device, precision));
    return;
  }
  if (group.ranks() == 1) {
    whole_ = std::make_unique<WanTransformer>(WanTransformer::Load(model, device, precision));
    return;
  }
  const ShardedWanForm form{precision, {}, /*trained=*/false, /*sequence=*/nullptr};
  shard_ = std::make_unique<ShardedWan>(ShardedWan::Load(model, form, /*seed=*/0, *group_, device));
}

at::Tensor FrozenModel::Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const {
  if (offloaded_) return offloaded_->Forward(x, sigma, condition);
  return whole_ ? whole_->Forward(x, sigma, condition) : shard_->Forward(x, sigma, condition);
}

void FrozenModel::SkipForward() const {
  if (shard_) shard_->SkipForward();
}

}  // namespace sgmd
