// What tiles save and cost: frames of 832 x 480 pixels through the Wan2.1 VAE with random weights, whole and in tiles
// of 256. Memory is what tensors hold at most beyond the model and the input, with the result; times are of the CPU.
//   vae_tiling_bench [base channels, 96 of the released model] [latent frames]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>

#include "pipeline/flow/random.h"
#include "pipeline/vae/wan_vae.h"
#include "tests/support/counting_allocator.h"

namespace {

struct Cost {
  double gigabytes, seconds;
};

Cost CostOf(const std::function<at::Tensor()>& run) {
  const std::int64_t before = sgmd::CountingAllocator::live();
  sgmd::CountingAllocator::ResetPeak();
  const std::clock_t start = std::clock();
  run();
  return {static_cast<double>(sgmd::CountingAllocator::peak() - before) / 1e9,
          static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC};
}

}  // namespace

int main(int argc, char** argv) {
  using namespace sgmd;
  at::set_num_threads(1);
  const CountingAllocator counting;
  VaeConfig config = VaeConfig::Wan21();
  config.base_dim = config.decoder_base_dim = argc > 1 ? std::atoi(argv[1]) : 96;
  const std::int64_t frames = argc > 2 ? std::atoi(argv[2]) : 3;
  WanVae vae(config);
  for (const auto& [name, parameter] : vae.parameters()) parameter.normal_(0, 0.01);
  const at::Tensor latents = Noise({1, 16, frames, 60, 104}, 1),
                   pixels = Uniform({1, 3, 4 * frames - 3, 480, 832}, 2) * 2 - 1;
  const auto decode = [&] { return vae.Decode(latents); };
  const auto encode = [&] { return vae.Encode(pixels); };
  const Cost decoding = CostOf(decode), encoding = CostOf(encode);
  vae.TileSpace({});
  const Cost tiled_decoding = CostOf(decode), tiled_encoding = CostOf(encode);
  std::printf("%lld base channels, %lld latent frames of 60x104\n", static_cast<long long>(config.base_dim),
              static_cast<long long>(frames));
  const auto print = [](const char* what, const Cost& whole, const Cost& tiled) {
    std::printf("%s: peak %.2f GB, in tiles %.2f GB (ratio %.3f); time, in tiles / whole: %.2f\n", what,
                whole.gigabytes, tiled.gigabytes, tiled.gigabytes / whole.gigabytes, tiled.seconds / whole.seconds);
  };
  print("decode", decoding, tiled_decoding);
  print("encode", encoding, tiled_encoding);
}
