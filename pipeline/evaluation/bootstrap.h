// How far a figure may be off: confidence intervals by resampling the videos that it was measured on.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace sgmd {

/// A set of videos drawn in turn from `strata` kinds: video i is of kind i % strata. count >= strata >= 1.
struct SampleSet {
  std::int64_t count = 0, strata = 1;
};

/// Figures of one or more sets, each computed of these members of it: int64 [count], repeats allowed.
using SetStatistics = std::function<std::vector<double>(const std::vector<at::Tensor>& members)>;

/// A figure, and the ends of its interval.
struct Estimate {
  double value = 0, low = 0, high = 0;
};

inline constexpr int kResamples = 200;
inline constexpr double kCoverage = 0.95;

/// `statistics` of the whole sets with intervals of kCoverage from kResamples resamples, which keep the size of each
/// set and each kind's share of it (stratified bootstrap, Efron & Tibshirani 1993, §6 and §13.3). A resample repeats
/// some videos and so has a larger bias than the set where a statistic is biased for few samples, as a Fréchet distance
/// is; the percentiles are therefore taken about the resamples' own mean: value + (percentile - mean). They tell the
/// spread over other draws of as many videos, not the bias. A function of the arguments.
std::vector<Estimate> Bootstrap(const std::vector<SampleSet>& sets, const SetStatistics& statistics,
                                std::uint64_t seed);

}  // namespace sgmd
