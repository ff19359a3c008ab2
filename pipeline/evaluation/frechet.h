// Fréchet distance between two sets of feature vectors taken as Gaussians.
#pragma once

#include <ATen/core/Tensor.h>

namespace sgmd {

/// Mean and covariance of a set of features.
struct FeatureStatistics {
  at::Tensor mean;        // float64 [D]
  at::Tensor covariance;  // float64 [D, D], unbiased
};

/// `features` floating [N, D], N >= 2. Throws Error on a value that is not finite.
FeatureStatistics StatisticsOf(const at::Tensor& features);

/// |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2)), >= 0 up to rounding (Heusel et al. 2017, as in FID and
/// FVD). Singular covariances are fine. Biased upwards for few samples: compare sets of the same size, at least 10 D.
double FrechetDistance(const FeatureStatistics& a, const FeatureStatistics& b);

}  // namespace sgmd
