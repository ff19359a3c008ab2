// What checkpointing of blocks saves and costs: a training step of a model of dim 256, 8 layers, on 512 tokens. Times
// are of the CPU, medians of rounds in turn; memory is what tensors hold at most beyond the model and its gradients.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <map>
#include <vector>

#include "pipeline/flow/random.h"
#include "pipeline/models/wan_transformer.h"
#include "tests/support/counting_allocator.h"

int main() {
  using namespace sgmd;
  constexpr int kRounds = 9;
  at::set_num_threads(1);
  const CountingAllocator counting;
  WanConfig config;
  config.dim = 256;
  config.ffn_dim = 1024;
  config.num_heads = 4;
  config.num_layers = 8;
  config.text_len = 64;
  config.text_dim = 64;
  const at::Tensor x = Noise({1, 16, 8, 16, 16}, 1), sigma = at::full({1}, 0.5F),
                   context = Noise({1, 64, 64}, 2);  // 8 x 8 x 8 tokens
  struct Result {
    std::vector<double> seconds;
    std::int64_t kept = 0, peak = 0;
  };
  for (const bool adapters : {false, true}) {
    WanTransformer base(config);
    base.Initialise(1);
    WanTransformer model = adapters ? base.WithAdapters({16, 16.0}, 3) : std::move(base);
    model.SetRequiresGrad(true);
    std::map<bool, Result> results;
    for (int round = -1; round < kRounds; ++round) {  // the first fills caches and makes the gradients
      for (const bool checkpointing : {false, true}) {
        model.SetBlockCheckpointing(checkpointing);
        const std::int64_t before = CountingAllocator::live();
        CountingAllocator::ResetPeak();
        const std::clock_t start = std::clock();
        at::Tensor loss = model.Forward(x, sigma, {context}).square().mean();
        const std::int64_t kept = CountingAllocator::live() - before;
        loss.backward();
        if (round < 0) continue;
        results[checkpointing].seconds.push_back(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
        results[checkpointing].kept = kept;
        results[checkpointing].peak = CountingAllocator::peak() - before;
      }
    }
    for (auto& [checkpointing, r] : results) {
      std::sort(r.seconds.begin(), r.seconds.end());
      std::printf("%-14s %-12s kept after forward %6.1f MiB, peak %6.1f MiB, %.3f s\n",
                  adapters ? "adapters" : "full training", checkpointing ? "checkpointed" : "plain", r.kept / 1048576.0,
                  r.peak / 1048576.0, r.seconds[kRounds / 2]);
    }
    std::printf("ratio: kept %.3f, peak %.3f, time %.2f\n",
                static_cast<double>(results[true].kept) / results[false].kept,
                static_cast<double>(results[true].peak) / results[false].peak,
                results[true].seconds[kRounds / 2] / results[false].seconds[kRounds / 2]);
  }
}
