// The score cache's hit path: read and verify, MB/s by the size of a score.
#include <benchmark/benchmark.h>

#include "nodes/broker/answer_cache.h"
#include "tests/nodes/looked_up.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

void BM_CacheHit(benchmark::State& state) {
  const auto floats = static_cast<std::size_t>(state.range(0)) / sizeof(float);
  const TempFolder folder;
  AnswerCache cache(folder.path(), {.limit_gib = 2.0});
  constexpr std::uint64_t kEntries = 32;
  for (std::uint64_t i = 0; i < kEntries; ++i) {
    auto data = std::make_shared<std::vector<float>>(floats, static_cast<float>(i));
    cache.Store(
        {0, i},
        {{"velocity", DType::kF32, {static_cast<std::int64_t>(floats)}, std::as_bytes(std::span(*data))}, data});
  }
  cache.Sync();
  std::uint64_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(LookedUp(cache, {0, i++ % kEntries}));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * state.range(0));
}
BENCHMARK(BM_CacheHit)->Arg(48 << 10)->Arg(1 << 20)->Arg(8 << 20);

}  // namespace
}  // namespace sgmd
