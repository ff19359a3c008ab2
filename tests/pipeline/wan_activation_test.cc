// The activation bytes of wan_size.h against what LibTorch really holds: every allocation of a pass is counted.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/Allocator.h>
#include <c10/core/GradMode.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include "pipeline/flow/random.h"
#include "pipeline/models/wan_size.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

// Bytes alive, and the most there ever were, of what is allocated while it is installed.
class MemoryMeter : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, std::int64_t bytes, std::size_t, std::size_t, c10::Device) override {
    alive += bytes;
    peak = std::max(peak, alive);
  }
  bool memoryProfilingEnabled() const override { return true; }
  std::int64_t alive = 0, peak = 0;
};

WanConfig Config() {
  WanConfig c;
  c.in_dim = c.out_dim = 4;
  c.dim = 96;
  c.ffn_dim = 384;
  c.freq_dim = 32;
  c.text_dim = 64;
  c.text_len = 32;
  c.num_heads = 2;
  c.num_layers = 3;
  return c;
}

struct Measured {
  double kept, peak;  // bytes after the forward pass, and the most until the end of the backward pass
};

// Two videos of 4 x 16 x 16 tokens. Gradients of parameters are not activations: they are made before the meter starts.
Measured Measure(Backward backward) {
  at::set_num_threads(1);
  WanTransformer model(Config());
  model.Initialise(1);
  model.SetRequiresGrad(backward == Backward::kFull);
  const at::Tensor x = Noise({2, 4, 4, 32, 32}, 2).requires_grad_(backward == Backward::kInput);
  const at::Tensor sigma = at::full({2}, 0.5), context = Noise({2, 32, 64}, 3);
  const c10::AutoGradMode mode(backward != Backward::kNone);
  const auto pass = [&] { return model.Forward(x, sigma, context).square().sum(); };
  if (backward != Backward::kNone) pass().backward();  // gradients exist from here on
  const auto meter = std::make_shared<MemoryMeter>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter);
  const at::Tensor loss = pass();
  const double kept = static_cast<double>(meter->alive);
  if (backward != Backward::kNone) loss.backward();
  return {kept, static_cast<double>(meter->peak)};
}

void ExpectFormula(Backward backward) {
  const Measured measured = Measure(backward);
  const double formula = ActivationBytes(Config(), 4 * 16 * 16, {.backward = backward, .samples = 2});
  std::printf("formula %.2f MB, kept %.2f MB, peak %.2f MB\n", formula / 1e6, measured.kept / 1e6, measured.peak / 1e6);
  EXPECT_LE(measured.peak, 1.05 * formula);
  EXPECT_GE(measured.peak, 0.80 * formula);
}

TEST(WanActivation, FormulaHoldsForTraining) { ExpectFormula(Backward::kFull); }
TEST(WanActivation, FormulaHoldsForTheInputGradient) { ExpectFormula(Backward::kInput); }
TEST(WanActivation, FormulaHoldsWithoutGradients) { ExpectFormula(Backward::kNone); }

}  // namespace
}  // namespace sgmd
