// The fused row kernels against the chains of ATen's operations, forward and backward, on the CPU: microseconds of
// each, in turn, the best of rounds, and the ratio. Options: threads (1), rows (512).
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "pipeline/kernels/kernels.h"
#include "pipeline/training/adamw.h"

namespace sgmd {
namespace {

using Tensors = std::vector<at::Tensor>;
using Clock = std::chrono::steady_clock;

constexpr double kEps = 1e-6;
constexpr int kRounds = 9;

double Seconds(const std::function<void()>& f) {
  int times = 0;
  const Clock::time_point start = Clock::now();
  do {
    f();
    ++times;
  } while (Clock::now() - start < std::chrono::milliseconds(40));
  return std::chrono::duration<double>(Clock::now() - start).count() / times;
}

struct Times {
  double forward = 1e9, both = 1e9;
};

// `run` takes leaves that require gradients, in the order of `inputs`.
void Compare(const char* name, const Tensors& inputs, const std::function<Tensors(Kernels, const Tensors&)>& run) {
  Tensors leaves, wanted;
  for (const at::Tensor& t : inputs) {
    leaves.push_back(t.is_complex() ? t : t.detach().clone().requires_grad_());
    if (!t.is_complex()) wanted.push_back(leaves.back());
  }
  Times times[2];
  for (int round = -1; round < kRounds; ++round) {
    for (const Kernels kernels : {Kernels::kFused, Kernels::kReference}) {
      Times& t = times[kernels == Kernels::kFused ? 0 : 1];
      const double forward = Seconds([&] {
        const c10::NoGradGuard no_grad;
        run(kernels, leaves);
      });
      const double both = Seconds([&] {
        const Tensors results = run(kernels, leaves);
        Tensors gradients(results.size(), inputs[0]);
        torch::autograd::grad(results, wanted, gradients);
      });
      if (round < 0) continue;  // fills caches
      t.forward = std::min(t.forward, forward);
      t.both = std::min(t.both, both);
    }
  }
  const auto& [fused, aten] = times;
  std::printf("  %-26s forward %8.0f -> %7.0f us, %4.1f times   with backward %8.0f -> %7.0f us, %4.1f times\n", name,
              aten.forward * 1e6, fused.forward * 1e6, aten.forward / fused.forward, aten.both * 1e6, fused.both * 1e6,
              aten.both / fused.both);
}

void CompareAll(std::int64_t rows, std::int64_t d, at::ScalarType dtype) {
  std::printf("%s, %ld rows of %ld\n", c10::toString(dtype), static_cast<long>(rows), static_cast<long>(d));
  const at::Tensor x = at::randn({1, rows, d}).to(dtype), y = at::randn({1, rows, d}).to(dtype),
                   gate = at::randn({1, 1, d}), scale = at::randn({1, 1, d}) * 0.1, shift = at::randn({1, 1, d}) * 0.1,
                   weight = at::rand({d}) + 0.5, bias = at::randn({d}) * 0.1, angles = at::randn({rows, 64}),
                   turns = at::polar(at::ones_like(angles), angles);
  Compare("adaptive norm", {x, scale, shift},
          [](Kernels k, const Tensors& t) -> Tensors { return {AdaptiveNorm(k, t[0], t[1], t[2], kEps)}; });
  Compare("gated add, affine norm", {x, y, gate, weight, bias}, [](Kernels k, const Tensors& t) -> Tensors {
    const auto [stream, norm] = AddThenNorm(k, t[0], t[1], t[2], t[3], t[4], kEps);
    return {stream, norm};
  });
  Compare("add, adaptive norm", {x, y, scale, shift}, [](Kernels k, const Tensors& t) -> Tensors {
    const auto [stream, norm] = AddThenNorm(k, t[0], t[1], {}, t[2], t[3], kEps);
    return {stream, norm};
  });
  Compare("gated add", {x, y, gate},
          [](Kernels k, const Tensors& t) -> Tensors { return {AddGated(k, t[0], t[1], t[2])}; });
  Compare("RMS norm, rotation", {x, weight, turns},
          [](Kernels k, const Tensors& t) -> Tensors { return {RmsNormThenRotate(k, t[0], t[1], t[2], kEps)}; });
  Compare("GELU", {x}, [](Kernels k, const Tensors& t) -> Tensors { return {Gelu(k, t[0])}; });
}

// A million parameters with an average, without a first moment.
void CompareOptimizers() {
  double seconds[2] = {1e9, 1e9};
  OptimizerConfig config;
  config.learning_rate = 1e-6;
  for (const Kernels kernels : {Kernels::kFused, Kernels::kReference}) {
    at::Tensor p = at::randn({1 << 20}).requires_grad_(true);
    const at::Tensor gradient = at::randn({1 << 20}) * 1e-3;
    AdamW adamw(
        {{"p", p}}, config, [](const auto&) { return 0.5; }, kernels);
    Ema ema({{"p", p}}, 0.9);
    for (int round = 0; round < kRounds; ++round) {
      const double found = Seconds([&] {
        p.mutable_grad() = gradient;
        adamw.Step(1.0, &ema);
      });
      double& best = seconds[kernels == Kernels::kFused ? 0 : 1];
      best = std::min(best, found);
    }
  }
  std::printf("AdamW and average, 2^20 parameters: %.0f -> %.0f us, %.1f times\n", seconds[1] * 1e6, seconds[0] * 1e6,
              seconds[1] / seconds[0]);
}

}  // namespace
}  // namespace sgmd

int main(int count, char** arguments) {
  at::set_num_threads(count > 1 ? std::atoi(arguments[1]) : 1);
  const std::int64_t rows = count > 2 ? std::atoi(arguments[2]) : 512;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const std::int64_t d : {1536, 5120}) sgmd::CompareAll(rows, d, dtype);
  }
  sgmd::CompareOptimizers();
}
