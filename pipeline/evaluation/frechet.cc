#include "pipeline/evaluation/frechet.h"

#include <ATen/ATen.h>

#include "common/error/error.h"

namespace sgmd {
namespace {

// Square root of a symmetric matrix; eigenvalues below zero are rounding and taken as zero.
at::Tensor SquareRoot(const at::Tensor& symmetric) {
  const auto [values, vectors] = at::linalg_eigh(symmetric);
  return at::matmul(vectors * values.clamp_min(0).sqrt(), vectors.t());
}

}  // namespace

FeatureStatistics StatisticsOf(const at::Tensor& features) {
  const at::Tensor x = features.to(at::kDouble);
  if (x.dim() != 2 || x.size(0) < 2) throw Error(StrCat("features must be [N >= 2, D], got ", x.sizes()));
  if (!x.isfinite().all().item<bool>()) throw Error("features are not finite: the videos hold inf or nan");
  const at::Tensor mean = x.mean(0), centred = x - mean;
  return {mean, at::matmul(centred.t(), centred) / static_cast<double>(x.size(0) - 1)};
}

double FrechetDistance(const FeatureStatistics& a, const FeatureStatistics& b) {
  const at::Tensor root = SquareRoot(a.covariance);
  const at::Tensor product = at::matmul(at::matmul(root, b.covariance), root);
  const at::Tensor cross = std::get<0>(at::linalg_eigh((product + product.t()) / 2)).clamp_min(0).sqrt().sum();
  const at::Tensor distance =
      (a.mean - b.mean).square().sum() + at::trace(a.covariance) + at::trace(b.covariance) - 2 * cross;
  return distance.item<double>();
}

}  // namespace sgmd
