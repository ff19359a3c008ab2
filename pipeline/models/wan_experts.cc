#include "pipeline/models/wan_experts.h"

#include <ATen/ATen.h>

#include "common/error/error.h"

namespace sgmd {

std::size_t ExpertAt(const std::vector<double>& min_sigmas, double sigma) {
  std::size_t expert = 0;
  while (!IsFrom(min_sigmas[expert], sigma)) ++expert;
  return expert;
}

std::size_t ExpertAt(const std::vector<double>& min_sigmas, const at::Tensor& sigma) {
  if (min_sigmas.size() == 1) return 0;
  const at::Tensor ends = at::stack({sigma.min(), sigma.max()}).to(at::TensorOptions(at::kCPU).dtype(at::kDouble));
  const double least = ends[0].item<double>(), most = ends[1].item<double>();
  const std::size_t expert = ExpertAt(min_sigmas, least);
  if (expert != ExpertAt(min_sigmas, most))
    throw Error(StrCat("a batch at noise levels from ", least, " to ", most, " is for two experts"));
  return expert;
}

WanExperts WanExperts::Load(const std::vector<Expert>& experts, at::Device device, WanPrecision precision) {
  WanExperts loaded;
  for (const Expert& expert : experts) {
    loaded.min_sigmas_.push_back(expert.min_sigma);
    loaded.models_.push_back(WanTransformer::Load(expert.model, device, precision));
    if (loaded.models_.back().config() != loaded.config())
      throw Error("the two experts have other sizes than each other", expert.model.string());
  }
  return loaded;
}

WanExperts::WanExperts(WanTransformer only) : min_sigmas_{0} { models_.push_back(std::move(only)); }

WanExperts::WanExperts(std::vector<double> min_sigmas, std::vector<WanTransformer> models)
    : min_sigmas_(std::move(min_sigmas)), models_(std::move(models)) {}

at::Tensor WanExperts::Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const {
  return models_[ExpertAt(min_sigmas_, sigma)].Forward(x, sigma, condition);
}

}  // namespace sgmd
