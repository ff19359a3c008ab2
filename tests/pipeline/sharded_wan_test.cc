// A model whose parameters are sharded over a group gives the bits of one process, whatever the number of ranks.
#include "pipeline/parallel/sharded_wan.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <mutex>
#include <thread>

#include "pipeline/flow/random.h"
#include "pipeline/parallel/process_group.h"
#include "pipeline/training/adamw.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace sgmd {
namespace {

constexpr int kMicroBatches = 4, kSteps = 3;

// A block has four grains, so that each of four ranks holds some of it.
WanConfig Config() {
  WanConfig c = TinyWanConfig(3);
  c.dim = 96;
  c.ffn_dim = 800;
  return c;
}

WanTransformer Whole(at::ScalarType compute) {
  WanTransformer model = RandomModel(Config(), {at::kFloat, compute});
  model.SetRequiresGrad(true);
  return model;
}

struct Inputs {
  at::Tensor x, sigma, text, target;
};
Inputs InputsOf(int step, int micro_batch) {
  const auto seed = [&](const char* what) { return SeedFor(7, step, micro_batch, what); };
  return {Noise({2, 2, 2, 6, 4}, seed("x")), Uniform({2}, seed("sigma")), Noise({2, 4, 6}, seed("text")),
          Noise({2, 2, 2, 6, 4}, seed("target"))};
}

at::Tensor LossOf(const VelocityModel& model, const Inputs& in) {
  return (model.Forward(in.x, in.sigma, {in.text}) - in.target).square().mean() / kMicroBatches;
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

std::vector<ShardUnit> LayoutOf(const WanTransformer& model, at::ScalarType compute) {
  std::vector<LaidOut> tensors;
  for (const auto& [name, tensor] : model.parameters())
    tensors.push_back({name, tensor.sizes().vec(), c10::toString(IsUsedWide(name) ? at::kFloat : compute)});
  return LayOut(tensors);
}

// dL/dx at fixed parameters, as the fake score gives it.
at::Tensor InputGradient(const VelocityModel& model, const Inputs& in) {
  const at::Tensor x = in.x.clone().requires_grad_();
  model.Forward(x, in.sigma, {in.text}).square().sum().backward();
  return x.grad();
}

Outcome Alone(at::ScalarType compute) {
  WanTransformer model = Whole(compute);
  const auto layout = LayoutOf(model, compute);
  AdamW optimizer(model.trained(), Optimizer(), [&](const std::vector<at::Tensor>& gradients) {
    std::map<std::string, at::Tensor> by_name;
    for (std::size_t i = 0; i < gradients.size(); ++i) by_name[model.parameters()[i].first] = gradients[i];
    return GrainNorm(layout, by_name);
  });
  Outcome outcome;
  {
    const c10::NoGradGuard no_grad;
    const Inputs in = InputsOf(0, 0);
    outcome.forward = model.Forward(in.x, in.sigma, {in.text});
  }
  for (int step = 0; step < kSteps; ++step) {
    for (int m = 0; m < kMicroBatches; ++m) LossOf(model, InputsOf(step, m)).backward();
    outcome.norms.push_back(optimizer.Step().gradient_norm);
  }
  model.SetRequiresGrad(false);
  outcome.input_gradient = InputGradient(model, InputsOf(9, 9));
  outcome.weights = model.parameters();
  return outcome;
}

Outcome OfRank(Collectives& group, at::ScalarType compute) {
  ShardedWan model(Config(), {compute, at::kFloat}, group, at::kCPU);
  ShardedParameters& parameters = model.parameters();
  const WanTransformer start = Whole(compute);
  for (const auto& [name, tensor] : start.parameters()) parameters.Set(name, tensor);
  parameters.SetRequiresGrad(true);
  AdamW optimizer(parameters.Trained(), Optimizer(), [&](const auto& shards) { return parameters.Norm(shards); });
  Outcome outcome;
  {
    const c10::NoGradGuard no_grad;
    const Inputs in = InputsOf(0, 0);
    outcome.forward = model.Forward(in.x, in.sigma, {in.text});
  }
  for (int step = 0; step < kSteps; ++step) {
    for (int m = group.rank(); m < kMicroBatches; m += group.ranks()) LossOf(model, InputsOf(step, m)).backward();
    outcome.norms.push_back(optimizer.Step().gradient_norm);
  }
  parameters.SetRequiresGrad(false);
  outcome.input_gradient = InputGradient(model, InputsOf(9, 9));
  std::vector<at::Tensor> shards;
  for (const auto& [name, shard] : parameters.Trained()) shards.push_back(shard);
  outcome.weights = parameters.Whole(shards);
  return outcome;
}

class ShardedModel : public testing::TestWithParam<std::tuple<int, at::ScalarType>> {};

TEST_P(ShardedModel, GivesTheBitsOfOneProcess) {
  const auto [ranks, compute] = GetParam();
  at::set_num_threads(1);
  const Outcome alone = Alone(compute);
  std::map<std::string, at::Tensor> expected(alone.weights.begin(), alone.weights.end());
  const TempFolder folder;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank, ranks = ranks, compute = compute] {
      at::set_num_threads(1);
      const auto group =
          ranks == 1 ? Solo() : ConnectGloo({folder / "rendezvous", rank, ranks, std::chrono::seconds(60)});
      const Outcome found = OfRank(*group, compute);
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

INSTANTIATE_TEST_SUITE_P(Ranks, ShardedModel,
                         testing::Combine(testing::Values(1, 2, 4), testing::Values(at::kFloat, at::kBFloat16)),
                         [](const auto& info) {
                           return std::to_string(std::get<0>(info.param)) + c10::toString(std::get<1>(info.param));
                         });

// Every parameter is in one shard of one rank, and nothing else of the model stays on a rank.
TEST(ShardedModelMemory, ShardsAddUpToTheModel) {
  const TempFolder folder;
  std::mutex lock;
  std::int64_t elements = 0;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const auto group = ConnectGloo({folder / "rendezvous", rank, 2, std::chrono::seconds(60)});
      ShardedWan model(Config(), {}, *group, at::kCPU);
      const std::lock_guard guard(lock);
      for (const auto& [name, shard] : model.parameters().Trained()) elements += shard.numel();
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::int64_t units = Config().num_layers + 1, segments = 2 * units;
  EXPECT_GE(elements, Whole(at::kFloat).ParameterCount());
  EXPECT_LE(elements, Whole(at::kFloat).ParameterCount() + segments * 2 * kGrain);
}

}  // namespace
}  // namespace sgmd
