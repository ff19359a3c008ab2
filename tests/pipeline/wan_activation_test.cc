// The activation bytes of wan_size.h against what LibTorch really holds: every allocation of a pass is counted.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/Allocator.h>
#include <c10/core/GradMode.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include "pipeline/flow/random.h"
#include "pipeline/models/lora.h"
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

WanConfig Config(bool image = false) {
  WanConfig c;
  c.in_dim = c.out_dim = 4;
  c.dim = 96;
  c.ffn_dim = 384;
  c.freq_dim = 32;
  c.text_dim = 64;
  c.text_len = 32;
  c.num_heads = 2;
  c.num_layers = 6;
  if (image) c.in_dim = 2 * c.out_dim + WanConfig::kMaskChannels, c.image_dim = 80;
  return c;
}

struct Case {
  Backward backward = Backward::kFull;
  bool checkpoint_blocks = false, half = false;
  std::int64_t side = 16;  // tokens are 4 x side x side
  bool keep_attention = false;
  Kernels kernels = Kernels::kFused;
  bool image = false;  // a model that takes a first frame and CLIP tokens
  std::int64_t keep_blocks = 0;
};
constexpr std::int64_t kRank = 8, kSamples = 2;

WanTransformer ModelFor(const Case& c) {
  const bool adapters = c.backward == Backward::kAdapters;
  const WanPrecision precision = c.half ? WanPrecision(adapters ? at::kBFloat16 : at::kFloat, at::kBFloat16, c.kernels)
                                        : WanPrecision(at::kFloat, at::kFloat, c.kernels);
  WanTransformer model(Config(c.image), at::kCPU, precision);
  model.Initialise(1);
  LoraConfig lora;
  lora.rank = kRank;
  lora.alpha = 1;
  if (adapters) model = model.WithAdapters(lora, 2);
  model.SetRequiresGrad(adapters || c.backward == Backward::kFull);
  model.SetBlockCheckpointing({c.checkpoint_blocks, c.keep_attention, c.keep_blocks});
  return model;
}

Conditioning ConditionFor(const Case& c) {
  Conditioning condition{Noise({kSamples, 32, 64}, 3)};
  if (!c.image) return condition;
  condition.image = Noise({kSamples, 4, 4, 2 * c.side, 2 * c.side}, 4);
  condition.clip = Noise({kSamples, WanConfig::kClipTokens, 80}, 5);
  return condition;
}

// The most bytes alive in a pass. Gradients of parameters are not activations: they are made before the meter starts.
double PeakOf(const Case& c) {
  at::set_num_threads(1);
  const WanTransformer model = ModelFor(c);
  const at::Tensor x =
      Noise({kSamples, 4, 4, 2 * c.side, 2 * c.side}, 2).requires_grad_(c.backward == Backward::kInput);
  const at::Tensor sigma = at::full({kSamples}, 0.5);
  const Conditioning condition = ConditionFor(c);
  const c10::AutoGradMode mode(c.backward != Backward::kNone);
  const auto pass = [&] {
    const at::Tensor loss = model.Forward(x, sigma, condition).square().sum();
    if (c.backward != Backward::kNone) loss.backward();
  };
  pass();
  const auto meter = std::make_shared<MemoryMeter>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter);
  pass();
  return static_cast<double>(meter->peak);
}

// What is alive between a forward pass and its backward pass.
double KeptOf(const Case& c) {
  const WanTransformer model = ModelFor(c);
  const at::Tensor x = Noise({kSamples, 4, 4, 2 * c.side, 2 * c.side}, 2), sigma = at::full({kSamples}, 0.5);
  const Conditioning condition = ConditionFor(c);
  model.Forward(x, sigma, condition).square().sum().backward();
  const auto meter = std::make_shared<MemoryMeter>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter);
  const at::Tensor kept = model.Forward(x, sigma, condition);
  return static_cast<double>(meter->alive);
}

// What launch/plan/memory_plan.cc counts as copies of weights: a bfloat16 pass over float32 weights keeps them.
double WeightCopies(const Case& c) {
  if (c.backward != Backward::kFull) return 0;
  const double block = static_cast<double>(BlockParameterCount(Config(c.image))),
               all = static_cast<double>(ParameterCount(Config(c.image)));
  const double kept = static_cast<double>(c.keep_blocks);
  if (!c.checkpoint_blocks || c.keep_blocks >= Config().num_layers) return c.half ? 2 * all : 0;
  return std::max(c.half ? 6.0 : 4.0, c.half ? 2 * kept : 0) * block;
}

PassSettings PassOf(const Case& c) {
  return {c.backward, kSamples, c.half ? 2 : 4, c.checkpoint_blocks, kRank, c.kernels, c.keep_attention, c.keep_blocks};
}

void ExpectFormula(const Case& c) {
  const double peak = PeakOf(c);
  const double formula = ActivationBytes(Config(c.image), 4 * c.side * c.side, PassOf(c)) + WeightCopies(c);
  std::printf("formula %.2f MB, peak %.2f MB\n", formula / 1e6, peak / 1e6);
  EXPECT_LE(peak, 1.05 * formula);
  EXPECT_GE(peak, 0.75 * formula);
}

TEST(WanActivation, FormulaHoldsForTraining) { ExpectFormula({}); }
TEST(WanActivation, FormulaHoldsForAdapters) { ExpectFormula({.backward = Backward::kAdapters}); }
TEST(WanActivation, FormulaHoldsForTheInputGradient) { ExpectFormula({.backward = Backward::kInput}); }
TEST(WanActivation, FormulaHoldsWithoutGradients) { ExpectFormula({.backward = Backward::kNone}); }
TEST(WanActivation, FormulaHoldsForCheckpointedTraining) { ExpectFormula({.checkpoint_blocks = true}); }
TEST(WanActivation, FormulaHoldsForCheckpointedTrainingThatKeepsAttention) {
  ExpectFormula({.checkpoint_blocks = true, .keep_attention = true});
}
TEST(WanActivation, FormulaHoldsForCheckpointedTrainingThatKeepsBlocks) {
  for (const std::int64_t kept : {1, 3, 6, 9}) {
    ExpectFormula({.checkpoint_blocks = true, .keep_attention = true, .keep_blocks = kept});
    ExpectFormula({.backward = Backward::kInput, .checkpoint_blocks = true, .keep_blocks = kept});
    ExpectFormula({.backward = Backward::kAdapters, .checkpoint_blocks = true, .keep_blocks = kept});
    ExpectFormula({.checkpoint_blocks = true, .half = true, .side = 6, .keep_blocks = kept});
  }
}
TEST(WanActivation, FormulaHoldsForCheckpointedAdapters) {
  ExpectFormula({.backward = Backward::kAdapters, .checkpoint_blocks = true});
}
TEST(WanActivation, FormulaHoldsForTrainingInBfloat16) { ExpectFormula({.half = true, .side = 6}); }
TEST(WanActivation, FormulaHoldsForCheckpointedAdaptersInBfloat16) {
  ExpectFormula({.backward = Backward::kAdapters, .checkpoint_blocks = true, .half = true, .side = 6});
}

TEST(WanActivation, FormulaHoldsForImageToVideo) {
  for (const Backward backward : {Backward::kFull, Backward::kAdapters, Backward::kInput, Backward::kNone}) {
    ExpectFormula({.backward = backward, .image = true});
    ExpectFormula({.backward = backward, .kernels = Kernels::kReference, .image = true});
  }
  ExpectFormula({.checkpoint_blocks = true, .image = true});
  ExpectFormula({.half = true, .side = 6, .image = true});
}

TEST(WanActivation, FormulaHoldsForReferenceKernels) {
  ExpectFormula({.kernels = Kernels::kReference});
  ExpectFormula({.backward = Backward::kInput, .kernels = Kernels::kReference});
  ExpectFormula({.backward = Backward::kNone, .kernels = Kernels::kReference});
  ExpectFormula({.half = true, .side = 6, .kernels = Kernels::kReference});
}

TEST(WanActivation, FormulaHoldsForGraphsThatAreKept) {
  for (const Recomputation& recompute : {Recomputation(false), Recomputation(true), Recomputation(true, true),
                                         Recomputation(true, false, 2), Recomputation(true, true, 6)}) {
    for (const Backward backward : {Backward::kFull, Backward::kAdapters}) {
      const Case c{.backward = backward,
                   .checkpoint_blocks = recompute.blocks,
                   .keep_attention = recompute.keep_attention,
                   .keep_blocks = recompute.keep_blocks};
      const double kept = KeptOf(c);
      const double formula = GraphBytes(Config(), 4 * c.side * c.side, PassOf(c));
      std::printf("formula %.2f MB, kept %.2f MB\n", formula / 1e6, kept / 1e6);
      EXPECT_LE(kept, 1.05 * formula);
      EXPECT_GE(kept, 0.75 * formula);
    }
  }
}

}  // namespace
}  // namespace sgmd
