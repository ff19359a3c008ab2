#include "pipeline/parallel/sharded_parameters.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "pipeline/flow/random.h"

namespace sgmd {
namespace {

// Kernels add in another order where there are more threads: the same one for any number of grains.
TEST(GrainNorm, IsThatOfAnyNumberOfRanksWithAnyThreads) {
  const std::int64_t elements = 5 * kGrain + 1234;
  const at::Tensor gradient = Noise({elements}, 3);
  const std::vector<ShardUnit> layout = LayOut({{"w", {elements}, "Float"}});
  at::set_num_threads(1);
  const double expected = GrainNorm(layout, {{"w", gradient}});
  EXPECT_NEAR(expected, gradient.to(at::kDouble).norm().item<double>(), 1e-9 * expected);
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    EXPECT_EQ(GrainNorm(layout, {{"w", gradient}}), expected) << threads;
    double by_grain = 0;
    for (std::int64_t first = 0; first < elements; first += kGrain) {
      const std::int64_t count = std::min(kGrain, elements - first);
      const double norm = GrainNorm(LayOut({{"w", {count}, "Float"}}), {{"w", gradient.narrow(0, first, count)}});
      by_grain += norm * norm;
    }
    EXPECT_DOUBLE_EQ(std::sqrt(by_grain), expected) << threads;
  }
  at::set_num_threads(1);
}

}  // namespace
}  // namespace sgmd
