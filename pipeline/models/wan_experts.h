// A Wan model that is one transformer, or two experts by noise level (wan_facts §1.1, Wan2.2-A14B), without gradients
// of its parameters: teachers, and whoever draws videos.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <vector>

#include "pipeline/flow/velocity_model.h"
#include "pipeline/models/role_experts.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {

/// Which of experts with these min_sigma (falling, the last 0) a noise level is for.
std::size_t ExpertAt(const std::vector<double>& min_sigmas, double sigma);
/// The same of a batch at `sigma` [B]. Reads it on the host where there are two. Throws Error unless it is one expert
/// for the whole batch.
std::size_t ExpertAt(const std::vector<double>& min_sigmas, const at::Tensor& sigma);

/// All experts of a model on one device. Forward is that of the expert for `sigma`, which must be one for the batch.
class WanExperts : public VelocityModel {
 public:
  /// `experts`: as FindExperts gives them. Throws Error as WanTransformer::Load does, and on experts of other sizes.
  static WanExperts Load(const std::vector<Expert>& experts, at::Device device, WanPrecision precision = {});
  explicit WanExperts(WanTransformer only);
  /// One, of the same sizes, for each of min_sigmas, which fall, the last to 0.
  WanExperts(std::vector<double> min_sigmas, std::vector<WanTransformer> models);

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override;

  const WanConfig& config() const { return models_.front().config(); }
  at::Device device() const { return models_.front().device(); }

 private:
  WanExperts() = default;

  std::vector<double> min_sigmas_;
  std::vector<WanTransformer> models_;
};

}  // namespace sgmd
