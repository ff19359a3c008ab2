// Block activation checkpointing: the same bits with less kept.
#include "pipeline/models/checkpointing.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>

#include <set>

#include "pipeline/models/attention.h"
#include "tests/support/counting_allocator.h"
#include "tests/support/tiny_model.h"

namespace sgmd {
namespace {

// With a first frame and CLIP tokens where the model takes them.
Conditioning ConditionFor(const WanConfig& config, const TinyInputs& in) {
  Conditioning condition{in.context};
  if (config.takes_image()) condition.image = Noise({2, config.out_dim, 2, 4, 4}, 9);
  if (config.may_hold_image()) condition.image = Noise({2, config.out_dim, 1, 4, 4}, 9);
  if (config.takes_clip()) condition.clip = Noise({2, 5, config.image_dim}, 10);
  return condition;
}

// Output, gradient of the input, then of everything trained, after two micro-batches.
std::vector<at::Tensor> Train(WanTransformer& model, Recomputation recompute) {
  model.SetBlockCheckpointing(recompute);
  model.SetRequiresGrad(true);
  for (const auto& [name, p] : model.trained()) p.mutable_grad() = at::Tensor();
  std::vector<at::Tensor> results;
  for (const std::uint64_t seed : {5, 6}) {
    const TinyInputs in;
    const at::Tensor x = Noise(in.x.sizes(), seed).to(model.parameters()[0].second.scalar_type()).requires_grad_(true);
    const at::Tensor y = model.Forward(x, in.sigma, ConditionFor(model.config(), in));
    y.square().mean().backward();
    results.insert(results.end(), {y.detach(), x.grad()});
  }
  for (const auto& [name, p] : model.trained()) results.push_back(p.grad());
  return results;
}

void ExpectSame(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_TRUE(a[i].defined() && b[i].defined()) << i;
    EXPECT_EQ(a[i].strides(), b[i].strides()) << i;
    EXPECT_TRUE(at::equal(a[i], b[i])) << i << ": " << (a[i] - b[i]).abs().max().item<double>();
  }
}

std::int64_t NodesBehind(const at::Tensor& y) {
  std::set<torch::autograd::Node*> seen;
  std::vector<torch::autograd::Node*> open{y.grad_fn().get()};
  while (!open.empty()) {
    torch::autograd::Node* node = open.back();
    open.pop_back();
    if (node == nullptr || !seen.insert(node).second) continue;
    for (const auto& edge : node->next_edges()) open.push_back(edge.function.get());
  }
  return static_cast<std::int64_t>(seen.size());
}

TEST(Checkpointing, GivesTheBitsOfPlainTraining) {
  WanTransformer model = RandomModel(TinyWanConfig(4));
  ExpectSame(Train(model, true), Train(model, false));
}

constexpr bool kKeepAttention = true;

TEST(Checkpointing, WithKeptAttentionGivesTheBitsOfPlainTraining) {
  WanTransformer model = RandomModel(TinyWanConfig(4));
  ExpectSame(Train(model, {true, kKeepAttention}), Train(model, false));
}

// None, one, and all; of adapters with kept blocks see below.
TEST(Checkpointing, WithKeptBlocksGivesTheBitsOfPlainTraining) {
  for (const WanPrecision& precision : {WanPrecision(at::kFloat), WanPrecision(at::kFloat, at::kBFloat16)}) {
    WanTransformer model = RandomModel(TinyWanConfig(4), precision);
    const std::vector<at::Tensor> plain = Train(model, false);
    for (const bool keep_attention : {false, true}) {
      for (const std::int64_t kept : {0, 1, 3, 4, 9}) {
        ExpectSame(Train(model, {true, keep_attention, kept}), plain);
        EXPECT_EQ(model.block_checkpointing(), kept < 4);
      }
    }
  }
}

// What is kept is one result a block, and it is not computed again: a block that were to compute with other weights in
// its second run would still take the attention of the first.
TEST(Checkpointing, TakesKeptAttentionInTheOrderOfTheCalls) {
  const at::Tensor q = Noise({1, 2, 5, 8}, 1), k = Noise({1, 2, 5, 8}, 2), v = Noise({1, 2, 5, 8}, 3);
  KeptAttention kept;
  std::vector<at::Tensor> first;
  {
    const KeepingAttention keeping(kept);
    first = {Attention(q, k, v, true), Attention(k, q, v, true), Attention(q, k, v, false)};
  }
  EXPECT_EQ(kept.results.size(), 2);
  const KeepingAttention taking(kept);
  EXPECT_TRUE(at::equal(Attention(v, v, v, true), first[0]));
  EXPECT_TRUE(at::equal(Attention(v, v, v, true), first[1]));
  EXPECT_TRUE(at::equal(Attention(q, k, v, false), at::scaled_dot_product_attention(q, k, v)));
}

TEST(Checkpointing, GivesTheBitsOfPlainTrainingOfAdapters) {
  WanTransformer model = RandomModel(TinyWanConfig(3)).WithAdapters({2, 2.0}, 7);
  {
    const c10::NoGradGuard no_grad;
    for (const auto& [name, p] : model.adapters()) p.add_(Noise(p.sizes(), 8) * 0.1);
  }
  for (const std::int64_t kept : {0, 1, 3}) ExpectSame(Train(model, {true, kKeepAttention, kept}), Train(model, false));
  ExpectSame(Train(model, true), Train(model, false));
}

TEST(Checkpointing, GivesTheBitsOfPlainTrainingWithAFirstFrame) {
  WanConfig holding = TinyWanConfig(3);
  holding.model_type = "ti2v";
  for (const WanConfig& config : {TinyImageConfig(3, 0), TinyImageConfig(3, 10), holding}) {
    WanTransformer model = RandomModel(config);
    ExpectSame(Train(model, true), Train(model, false));
    ExpectSame(Train(model, {true, kKeepAttention}), Train(model, false));
    ExpectSame(Train(model, {true, kKeepAttention, 1}), Train(model, false));
  }
}

TEST(Checkpointing, GivesTheBitsOfPlainTrainingInBfloat16) {
  WanTransformer model = RandomModel(TinyWanConfig(2), {at::kFloat, at::kBFloat16});
  ExpectSame(Train(model, true), Train(model, false));
}

// What the objectives ask of the fake score: the gradient of its input, while its parameters do not take part; and also
// while they would, where no gradient of theirs may be left behind.
TEST(Checkpointing, GivesTheInputGradientAlone) {
  WanTransformer model = RandomModel(TinyWanConfig(3));
  const TinyInputs in;
  for (const bool parameters : {false, true}) {
    model.SetRequiresGrad(parameters);
    std::vector<at::Tensor> gradients;
    for (const Recomputation& recompute : {Recomputation(false), Recomputation(true), Recomputation(true, false, 2)}) {
      model.SetBlockCheckpointing(recompute);
      const at::Tensor x = in.x.clone().requires_grad_(true);
      const at::Tensor loss = model.Forward(x, in.sigma, {in.context}).square().mean();
      gradients.push_back(torch::autograd::grad({loss}, {x})[0]);
    }
    EXPECT_TRUE(at::equal(gradients[0], gradients[1]));
    EXPECT_TRUE(at::equal(gradients[0], gradients[2]));
    for (const auto& [name, p] : model.parameters()) EXPECT_FALSE(p.grad().defined()) << name;
  }
}

TEST(Checkpointing, LeavesOneNodeABlockInTheGraph) {
  const TinyInputs in;
  const auto nodes = [&](std::int64_t layers, Recomputation recompute) {
    WanTransformer model = RandomModel(TinyWanConfig(layers));
    model.SetBlockCheckpointing(recompute);
    const at::Tensor x = in.x.clone().requires_grad_(true);  // parameters do not: all nodes are of activations
    return NodesBehind(model.Forward(x, in.sigma, {in.context}));
  };
  EXPECT_EQ(nodes(3, true) - nodes(2, true), 1);
  EXPECT_GT(nodes(3, false) - nodes(2, false), 30);
  EXPECT_EQ(nodes(3, {true, false, 1}) - nodes(2, {true, false, 1}), 1);
  EXPECT_EQ(nodes(3, {true, false, 3}), nodes(3, false));
}

TEST(Checkpointing, KeepsOnlyTheInputsOfBlocks) {
  const TinyInputs in;
  const CountingAllocator counting;
  WanConfig config = TinyWanConfig(6);
  WanTransformer model = RandomModel(config);
  const auto kept = [&](bool checkpointing) {
    model.SetBlockCheckpointing(checkpointing);
    const at::Tensor x = in.x.clone().requires_grad_(true);
    model.Forward(x, in.sigma, {in.context});  // fills the table of rotations
    const std::int64_t before = CountingAllocator::live();
    const at::Tensor y = model.Forward(x, in.sigma, {in.context});
    return CountingAllocator::live() - before;
  };
  const std::int64_t plain = kept(false), checkpointed = kept(true);
  const std::int64_t stream = 2 * 8 * config.dim * 4;  // 2 samples of 8 tokens
  EXPECT_LE(checkpointed, 6 * stream + plain / 6);     // a stream a block, and what is outside blocks
  EXPECT_LT(checkpointed, plain / 4);
}

TEST(Checkpointing, RecordsNothingWithoutGradients) {
  int runs = 0;
  const auto run = [&](const std::vector<at::Tensor>& inputs) {
    ++runs;
    return inputs[0] * 2;
  };
  EXPECT_FALSE(Checkpoint(run, {at::ones({2})}, {}).requires_grad());
  const at::Tensor x = at::ones({2}).requires_grad_(true);
  {
    const c10::NoGradGuard no_grad;
    EXPECT_FALSE(Checkpoint(run, {x}, {}).requires_grad());
  }
  EXPECT_EQ(runs, 2);
  Checkpoint(run, {x}, {}).sum().backward();
  EXPECT_EQ(runs, 4);
  EXPECT_TRUE(at::equal(x.grad(), at::full({2}, 2.0)));
}

}  // namespace
}  // namespace sgmd
