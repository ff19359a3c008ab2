// A model whose parameters are sharded over a group gives the bits of one process, whatever the number of ranks.
#include "pipeline/parallel/sharded_wan.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <map>
#include <mutex>
#include <thread>

#include "pipeline/flow/random.h"
#include "pipeline/parallel/process_group.h"
#include "pipeline/training/adamw.h"
#include "tests/support/counting_allocator.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace sgmd {
namespace {

constexpr int kMicroBatches = 4, kSteps = 3;

// A block has four grains, so that each of four ranks holds some of it.
enum class Image { kNone, kWithClip, kHeld };

WanConfig Config(Image image = Image::kNone) {
  WanConfig c = TinyWanConfig(3);
  c.dim = 96;
  c.ffn_dim = 800;
  if (image == Image::kWithClip) c.in_dim = 2 * c.out_dim + WanConfig::kMaskChannels, c.image_dim = 10;
  if (image == Image::kHeld) c.model_type = "ti2v";
  return c;
}

// What is compared: a precision, whether adapters are trained over a frozen base, and how the model is given a first
// frame.
struct Form {
  const char* name;
  at::ScalarType compute;
  bool adapted;
  Image image = Image::kNone;
  Recomputation recompute = {true};

  WanPrecision precision() const { return {adapted ? compute : at::kFloat, compute}; }
  LoraConfig lora() const { return adapted ? LoraConfig{2, 4.0} : LoraConfig{}; }
};

std::ostream& operator<<(std::ostream& out, const Form& form) { return out << form.name; }

// The same whole model in every thread, adapters that do something included.
WanTransformer Whole(const Form& form) {
  WanTransformer model = RandomModel(Config(form.image), form.precision());
  if (form.adapted) {
    model = model.WithAdapters(form.lora(), 5);
    const c10::NoGradGuard no_grad;
    for (std::size_t i = 0; i < model.adapters().size(); ++i) {
      at::Tensor tensor = model.adapters()[i].second;
      tensor.copy_(Noise(tensor.sizes(), SeedFor(11, 0, static_cast<std::int64_t>(i), "adapter")) * 0.1);
    }
  }
  model.SetRequiresGrad(true);
  return model;
}

struct Inputs {
  at::Tensor x, sigma, text, target, image, clip;

  Conditioning Condition(const Form& form) const {
    if (form.image == Image::kNone) return {text};
    return form.image == Image::kHeld ? Conditioning{text, image.slice(2, 0, 1)} : Conditioning{text, image, clip};
  }
};
Inputs InputsOf(int step, int micro_batch) {
  const auto seed = [&](const char* what) { return SeedFor(7, step, micro_batch, what); };
  // An odd number of tokens, which two ranks cannot share evenly.
  return {Noise({2, 2, 3, 6, 6}, seed("x")),     Uniform({2}, seed("sigma")),
          Noise({2, 4, 6}, seed("text")),        Noise({2, 2, 3, 6, 6}, seed("target")),
          Noise({2, 2, 3, 6, 6}, seed("image")), Noise({2, 5, 10}, seed("clip"))};
}

at::Tensor LossOf(const VelocityModel& model, const Inputs& in, const Form& form) {
  return (model.Forward(in.x, in.sigma, in.Condition(form)) - in.target).square().mean() / kMicroBatches;
}

OptimizerConfig Optimizer() {
  OptimizerConfig config;
  config.learning_rate = 1e-3;
  config.beta1 = 0.9;
  config.clip_norm = 0.02;  // clips in every step
  return config;
}

struct Outcome {
  at::Tensor forward, input_gradient;
  NamedTensors weights;
  std::vector<double> norms;
};

// dL/dx at fixed parameters, as the fake score gives it.
at::Tensor InputGradient(const VelocityModel& model, const Inputs& in, const Form& form) {
  const at::Tensor x = in.x.clone().requires_grad_();
  model.Forward(x, in.sigma, in.Condition(form)).square().sum().backward();
  return x.grad();
}

Outcome Alone(const Form& form) {
  WanTransformer model = Whole(form);
  const auto layout = LayOutTrained(model.trained(), form.precision());
  AdamW optimizer(model.trained(), Optimizer(), [&](const std::vector<at::Tensor>& gradients) {
    std::map<std::string, at::Tensor> by_name;
    for (std::size_t i = 0; i < gradients.size(); ++i) by_name[model.trained()[i].first] = gradients[i];
    return GrainNorm(layout, by_name);
  });
  Outcome outcome;
  {
    const c10::NoGradGuard no_grad;
    const Inputs in = InputsOf(0, 0);
    outcome.forward = model.Forward(in.x, in.sigma, in.Condition(form));
  }
  for (int step = 0; step < kSteps; ++step) {
    for (int m = 0; m < kMicroBatches; ++m) LossOf(model, InputsOf(step, m), form).backward();
    outcome.norms.push_back(optimizer.Step().gradient_norm);
  }
  model.SetRequiresGrad(false);
  outcome.input_gradient = InputGradient(model, InputsOf(9, 9), form);
  outcome.weights = model.trained();
  return outcome;
}

Outcome OfRank(Collectives& group, const Form& form, Collectives* sequence = nullptr) {
  ShardedWan model(Config(form.image), {form.precision(), form.lora(), true, sequence, form.recompute}, group,
                   at::kCPU);
  ShardedParameters& parameters = model.parameters();
  const WanTransformer start = Whole(form);
  for (const auto& [name, tensor] : start.parameters()) parameters.Set(name, tensor);
  for (const auto& [name, tensor] : start.adapters()) parameters.Set(name, tensor);
  parameters.SetRequiresGrad(true);
  AdamW optimizer(parameters.Trained(), Optimizer(), [&](const auto& shards) { return parameters.Norm(shards); });
  Outcome outcome;
  {
    const c10::NoGradGuard no_grad;
    const Inputs in = InputsOf(0, 0);
    outcome.forward = model.Forward(in.x, in.sigma, in.Condition(form));
  }
  for (int step = 0; step < kSteps; ++step) {
    const int sharing = sequence == nullptr ? 1 : sequence->ranks();
    for (int m = group.rank() / sharing; m < kMicroBatches; m += group.ranks() / sharing)
      LossOf(model, InputsOf(step, m), form).backward();
    outcome.norms.push_back(optimizer.Step().gradient_norm);
  }
  parameters.SetRequiresGrad(false);
  outcome.input_gradient = InputGradient(model, InputsOf(9, 9), form);
  std::vector<at::Tensor> shards;
  for (const auto& [name, shard] : parameters.Trained()) shards.push_back(shard);
  parameters.ForEachWhole(shards, [&](const std::string& name, const at::Tensor& whole) {
    outcome.weights.emplace_back(name, whole.clone());
  });
  return outcome;
}

class ShardedModel : public testing::TestWithParam<std::tuple<int, Form>> {};

TEST_P(ShardedModel, GivesTheBitsOfOneProcess) {
  const auto& [ranks, form] = GetParam();
  at::set_num_threads(1);
  const Outcome alone = Alone(form);
  std::map<std::string, at::Tensor> expected(alone.weights.begin(), alone.weights.end());
  const TempFolder folder;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank, ranks = ranks, form = form] {
      at::set_num_threads(1);
      const auto group =
          ranks == 1 ? Solo() : ConnectGloo({folder / "rendezvous", rank, ranks, std::chrono::seconds(60)});
      const Outcome found = OfRank(*group, form);
      EXPECT_TRUE(at::equal(found.forward, alone.forward));
      EXPECT_TRUE(at::equal(found.input_gradient, alone.input_gradient));
      EXPECT_EQ(found.norms, alone.norms);
      EXPECT_EQ(found.weights.size(), expected.size());
      for (const auto& [name, tensor] : found.weights) EXPECT_TRUE(at::equal(tensor, expected.at(name))) << name;
      group->Barrier();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

INSTANTIATE_TEST_SUITE_P(
    Ranks, ShardedModel,
    testing::Combine(
        testing::Values(1, 2, 4),
        testing::Values(Form{"Float32", at::kFloat, false}, Form{"Bfloat16", at::kBFloat16, false},
                        Form{"AdaptedFloat32", at::kFloat, true}, Form{"AdaptedBfloat16", at::kBFloat16, true},
                        Form{"ImageFloat32", at::kFloat, false, Image::kWithClip},
                        Form{"ImageBfloat16", at::kBFloat16, false, Image::kWithClip},
                        Form{"AdaptedImageBfloat16", at::kBFloat16, true, Image::kWithClip},
                        Form{"HeldImageFloat32", at::kFloat, false, Image::kHeld},
                        Form{"AdaptedHeldImageBfloat16", at::kBFloat16, true, Image::kHeld},
                        Form{"OneBlockKept", at::kFloat, false, Image::kNone, {true, true, 1}},
                        Form{"TwoBlocksKeptBfloat16", at::kBFloat16, false, Image::kNone, {true, false, 2}},
                        Form{"AllBlocksKept", at::kFloat, false, Image::kNone, {true, false, 3}},
                        Form{"AdaptedBlocksKeptBfloat16", at::kBFloat16, true, Image::kNone, {true, true, 2}},
                        Form{"ImageBlocksKept", at::kFloat, false, Image::kWithClip, {true, false, 2}},
                        Form{"HeldImageBlocksKept", at::kFloat, false, Image::kHeld, {true, false, 9}})),
    [](const auto& info) { return std::to_string(std::get<0>(info.param)) + std::get<1>(info.param).name; });

// What each of `ranks` ranks ends with, two and two sharing the tokens of a micro-batch.
std::vector<Outcome> WithSharedTokens(int ranks, const Form& form) {
  const TempFolder folder;
  std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      at::set_num_threads(1);
      const auto group = ConnectGloo({folder / "group", rank, ranks, std::chrono::seconds(60)});
      const auto sequence = ConnectGloo({folder / std::to_string(rank / 2), rank % 2, 2, std::chrono::seconds(60)});
      outcomes[static_cast<std::size_t>(rank)] = OfRank(*group, form, sequence.get());
      group->Barrier();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

void ExpectSame(const Outcome& found, const Outcome& expected) {
  EXPECT_TRUE(at::equal(found.forward, expected.forward));
  EXPECT_TRUE(at::equal(found.input_gradient, expected.input_gradient));
  EXPECT_EQ(found.norms, expected.norms);
  ASSERT_EQ(found.weights.size(), expected.weights.size());
  for (std::size_t i = 0; i < expected.weights.size(); ++i)
    EXPECT_TRUE(at::equal(found.weights[i].second, expected.weights[i].second)) << expected.weights[i].first;
}

// The degree decides the last bits of sums over tokens; how many micro-batches are taken at once does not.
TEST(SharedTokens, GiveTheSameBitsForOneMicroBatchAtOnceAndForTwo) {
  for (const Form& form : {Form{"Float32", at::kFloat, false}, Form{"AdaptedBfloat16", at::kBFloat16, true},
                           Form{"ImageFloat32", at::kFloat, false, Image::kWithClip},
                           Form{"HeldImageFloat32", at::kFloat, false, Image::kHeld}}) {
    const std::vector<Outcome> two = WithSharedTokens(2, form), four = WithSharedTokens(4, form);
    for (const std::vector<Outcome>* each : {&two, &four}) {
      for (const Outcome& found : *each) ExpectSame(found, two.front());
    }
  }
}

TEST(SharedTokens, GiveTheSameBitsWhateverIsKept) {
  for (const bool adapted : {false, true}) {
    Form form{"", adapted ? at::kBFloat16 : at::kFloat, adapted};
    const Outcome again = WithSharedTokens(2, form).front();
    for (const std::int64_t kept : {1, 3}) {
      form.recompute = {true, /*keep_attention=*/kept == 1, kept};
      for (const Outcome& found : WithSharedTokens(2, form)) ExpectSame(found, again);
    }
  }
}

// A graph that is gone through twice, as by a fake score that gives both gradients of one pass; one that is never gone
// through; and one that is gone through for the input alone while the parameters would take part.
TEST(ShardedModelGraphs, OfKeptBlocksLiveUntilTheirLastBackwardPass) {
  at::set_num_threads(1);
  const Form form{"", at::kFloat, false};
  const Inputs in = InputsOf(0, 0);
  const auto gradients = [&](std::int64_t kept) {
    const auto group = Solo();
    ShardedWan model(Config(), {form.precision(), {}, true, nullptr, {true, false, kept}}, *group, at::kCPU);
    const WanTransformer start = Whole(form);
    for (const auto& [name, tensor] : start.parameters()) model.parameters().Set(name, tensor);
    model.parameters().SetRequiresGrad(true);
    const CountingAllocator counting;
    const std::int64_t before = CountingAllocator::live();
    std::vector<at::Tensor> found;
    const auto beside_results = [&] {
      std::int64_t bytes = CountingAllocator::live() - before;
      for (const at::Tensor& tensor : found) bytes -= static_cast<std::int64_t>(tensor.nbytes());
      return bytes;
    };
    {
      const at::Tensor x = in.x.clone().requires_grad_();
      const at::Tensor y = model.Forward(x, in.sigma, {in.text});
      found.push_back(torch::autograd::grad({y.sum()}, {x}, {}, /*retain_graph=*/true)[0].sum());
      const std::int64_t whole = beside_results();
      y.square().mean().backward();
      found.push_back(x.grad().sum());
      for (const auto& [name, shard] : model.parameters().Trained()) found.push_back(shard.grad().clone());
      EXPECT_ANY_THROW(y.mean().backward());
      for (const auto& [name, shard] : model.parameters().Trained()) shard.mutable_grad() = at::Tensor();
      if (kept > 0) EXPECT_LT(beside_results(), whole - kept * 300000) << "of gathered weights alone";
      model.Forward(x, in.sigma, {in.text});
    }
    EXPECT_LT(beside_results(), 100000);
    return found;
  };
  const std::vector<at::Tensor> again = gradients(0);
  for (const std::int64_t kept : {1, 3}) {
    const std::vector<at::Tensor> found = gradients(kept);
    ASSERT_EQ(found.size(), again.size());
    for (std::size_t i = 0; i < again.size(); ++i) EXPECT_TRUE(at::equal(found[i], again[i])) << kept << ": " << i;
  }
}

// Relative to the largest value: one near zero is rounded as its summands are.
double LargestError(const at::Tensor& found, const at::Tensor& expected) {
  return ((found - expected).abs().max() / expected.abs().max()).item<double>();
}

class SharedTokensOf : public testing::TestWithParam<Form> {};

TEST_P(SharedTokensOf, GiveWhatOneProcessGivesButForRounding) {
  const Form form = GetParam();
  const Outcome alone = Alone(form), shared = WithSharedTokens(2, form).front();
  EXPECT_LT(LargestError(shared.forward, alone.forward), 1e-5);
  EXPECT_LT(LargestError(shared.input_gradient, alone.input_gradient), 1e-5);
  for (std::size_t i = 0; i < alone.norms.size(); ++i) EXPECT_NEAR(shared.norms[i] / alone.norms[i], 1, 1e-5);
  const std::map<std::string, at::Tensor> expected(alone.weights.begin(), alone.weights.end());
  for (const auto& [name, tensor] : shared.weights)
    EXPECT_TRUE(at::allclose(tensor, expected.at(name), 1e-3, 1e-5)) << name;
}

INSTANTIATE_TEST_SUITE_P(Models, SharedTokensOf,
                         testing::Values(Form{"Text", at::kFloat, false},
                                         Form{"Image", at::kFloat, false, Image::kWithClip},
                                         Form{"HeldImage", at::kFloat, false, Image::kHeld}),
                         [](const auto& info) { return std::string(info.param.name); });

// Every parameter is in one shard of one rank, and nothing else of the model stays on a rank.
TEST(ShardedModelMemory, ShardsAddUpToTheModel) {
  const TempFolder folder;
  std::mutex lock;
  std::int64_t elements = 0;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const auto group = ConnectGloo({folder / "rendezvous", rank, 2, std::chrono::seconds(60)});
      ShardedWan model(Config(), {at::kFloat, {}}, *group, at::kCPU);
      const std::lock_guard guard(lock);
      for (const auto& [name, shard] : model.parameters().Trained()) elements += shard.numel();
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::int64_t units = Config().num_layers + 1, segments = 2 * units;
  const std::int64_t whole = RandomModel(Config(), {}).ParameterCount();
  EXPECT_GE(elements, whole);
  EXPECT_LE(elements, whole + segments * 2 * kGrain);
}

}  // namespace
}  // namespace sgmd
