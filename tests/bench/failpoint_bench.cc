// A failpoint where no rule is given, against the same loop without one.
#include <benchmark/benchmark.h>

#include "common/failpoint/failpoint.h"

namespace {

void WithFailpoint(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(sgmd::failpoint::Hit("data.send", "Gradient").has_value());
}
BENCHMARK(WithFailpoint);

void Without(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(false);
}
BENCHMARK(Without);

}  // namespace

BENCHMARK_MAIN();
