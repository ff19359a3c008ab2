#include "pipeline/evaluation/bootstrap.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/error/error.h"
#include "pipeline/flow/random.h"

namespace sgmd {
namespace {

// As many members as the set has; each is replaced by one of its own kind.
at::Tensor Resample(const SampleSet& set, std::uint64_t seed) {
  const at::Tensor kind = at::arange(set.count, at::kLong) % set.strata;
  const at::Tensor of_kind = (set.count - 1 - kind).div(set.strata, "floor") + 1;
  const at::Tensor chosen = (Uniform({set.count}, seed).to(at::kDouble) * of_kind).to(at::kLong);
  return kind + set.strata * at::minimum(chosen, of_kind - 1);
}

double Quantile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const double part = place - static_cast<double>(below);
  return part == 0 ? sorted[below] : sorted[below] * (1 - part) + sorted[below + 1] * part;
}

Estimate About(double value, std::vector<double> resampled) {
  std::sort(resampled.begin(), resampled.end());
  const double mean = std::accumulate(resampled.begin(), resampled.end(), 0.0) / static_cast<double>(resampled.size());
  return {value, value + std::min(0.0, Quantile(resampled, (1 - kCoverage) / 2) - mean),
          value + std::max(0.0, Quantile(resampled, (1 + kCoverage) / 2) - mean)};
}

}  // namespace

std::vector<Estimate> Bootstrap(const std::vector<SampleSet>& sets, const SetStatistics& statistics,
                                std::uint64_t seed) {
  std::vector<at::Tensor> members;
  for (const SampleSet& set : sets) {
    if (set.strata < 1 || set.count < set.strata) {
      throw Error(StrCat("a set of ", set.count, " videos cannot be of ", set.strata, " kinds"));
    }
    members.push_back(at::arange(set.count, at::kLong));
  }
  const std::vector<double> values = statistics(members);
  std::vector<std::vector<double>> resampled(values.size());
  for (int draw = 0; draw < kResamples; ++draw) {
    for (std::size_t s = 0; s < sets.size(); ++s) {
      members[s] = Resample(sets[s], SeedFor(seed, draw, static_cast<std::int64_t>(s), "bootstrap"));
    }
    const std::vector<double> of_draw = statistics(members);
    for (std::size_t i = 0; i < values.size(); ++i) resampled[i].push_back(of_draw[i]);
  }
  std::vector<Estimate> estimates;
  for (std::size_t i = 0; i < values.size(); ++i) estimates.push_back(About(values[i], std::move(resampled[i])));
  return estimates;
}

}  // namespace sgmd
