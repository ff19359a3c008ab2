#include "pipeline/training/trained_model.h"

#include <ATen/ATen.h>

#include <map>

#include "pipeline/flow/random.h"
#include "pipeline/models/role_experts.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/parallel/sharded_wan.h"
#include "pipeline/training/frozen_model.h"
#include "pipeline/training/role_model.h"
#include "pipeline/training/two_experts.h"

namespace sgmd {
namespace {

NamedTensors Prefixed(const std::string& prefix, NamedTensors tensors) {
  for (auto& [name, tensor] : tensors) name.insert(0, prefix);
  return tensors;
}

class WholeModel : public TrainedModel {
 public:
  WholeModel(WanTransformer model, WanPrecision precision, const std::string& prefix)
      : TrainedModel(!model.adapters().empty(), model.block_checkpointing()),
        model_(std::move(model)),
        prefix_(prefix),
        trained_(Prefixed(prefix, model_.trained())),
        layout_(LayOutTrained(model_.trained(), precision)) {}

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override {
    return model_.Forward(x, sigma, condition);
  }
  const WanConfig& config() const override { return model_.config(); }
  at::Device device() const override { return model_.device(); }
  void SetRequiresGrad(bool requires_grad) override { model_.SetRequiresGrad(requires_grad); }
  const NamedTensors& trained() const override { return trained_; }
  ParameterPlaces Places() const override {
    ParameterPlaces places;
    for (const auto& [name, tensor] : trained()) places[name] = {{name, tensor.sizes().vec(), 0, tensor.numel(), 0}};
    return places;
  }
  std::vector<TrainedPart> Parts() const override {
    return {{prefix_, trained_, [this](const auto& gradients) { return Norm(gradients); }}};
  }
  std::vector<bool> TakeUsed() override { return {true}; }
  void SkipForward(double) const override {}
  void ForEachWhole(const NamedTensors& tensors, const NamedTensorVisitor& visit) const override {
    for (const auto& [name, tensor] : tensors) visit(name, tensor);
  }

 private:
  double Norm(const std::vector<at::Tensor>& gradients) const {
    std::map<std::string, at::Tensor> by_name;
    for (std::size_t i = 0; i < gradients.size(); ++i) by_name[model_.trained()[i].first] = gradients[i];
    return GrainNorm(layout_, by_name);
  }

  WanTransformer model_;
  std::string prefix_;
  NamedTensors trained_;
  std::vector<ShardUnit> layout_;
};

class ShardedModel : public TrainedModel {
 public:
  ShardedModel(ShardedWan model, bool adapted, Recomputation recompute, at::Device device, const std::string& prefix)
      : TrainedModel(adapted, recompute.OfAnyBlock(model.config().num_layers)),
        model_(std::move(model)),
        device_(device),
        prefix_(prefix),
        trained_(Prefixed(prefix, model_.parameters().Trained())) {}

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override {
    return model_.Forward(x, sigma, condition);
  }
  const WanConfig& config() const override { return model_.config(); }
  at::Device device() const override { return device_; }
  void SetRequiresGrad(bool requires_grad) override { model_.parameters().SetRequiresGrad(requires_grad); }
  const NamedTensors& trained() const override { return trained_; }
  ParameterPlaces Places() const override {
    std::vector<Slices> slices = model_.parameters().PlacesOfTrained();
    ParameterPlaces places;
    for (std::size_t i = 0; i < slices.size(); ++i) {
      for (Slice& slice : slices[i]) slice.name.insert(0, prefix_);
      places[trained_[i].first] = std::move(slices[i]);
    }
    return places;
  }
  std::vector<TrainedPart> Parts() const override {
    return {{prefix_, trained_, [this](const auto& gradients) { return model_.parameters().Norm(gradients); }}};
  }
  std::vector<bool> TakeUsed() override { return {true}; }
  void SkipForward(double) const override { model_.SkipForward(); }
  void ForEachWhole(const NamedTensors& tensors, const NamedTensorVisitor& visit) const override {
    std::vector<at::Tensor> shards;
    for (const auto& [name, shard] : tensors) shards.push_back(shard);
    model_.parameters().ForEachWhole(
        shards, [&](const std::string& name, const at::Tensor& whole) { visit(prefix_ + name, whole); });
  }

 private:
  ShardedWan model_;
  at::Device device_;
  std::string prefix_;
  NamedTensors trained_;
};

// What a role trains, from one transformer's weights.
struct Started {
  const Experiment& experiment;
  at::Device device;
  Recomputation recompute;
  Role role;
  const RankGroup& group;

  std::unique_ptr<TrainedModel> Transformer(const Expert& of) const;
};

std::unique_ptr<TrainedModel> Started::Transformer(const Expert& of) const {
  const bool adapted = experiment.lora.rank > 0;
  const WanPrecision precision = PrecisionOf(experiment, /*frozen=*/adapted);
  const std::string prefix = PrefixOf(of);
  const std::uint64_t seed = SeedFor(experiment.seed, 0, 0, prefix + Spell(role));
  if (group.ranks() > 1) {
    Recomputation again = recompute;
    again.blocks = true;
    const ShardedWanForm form{precision, LoraOf(experiment), true, group.sequence.get(), again};
    return std::make_unique<ShardedModel>(ShardedWan::Load(of.model, form, seed, *group.device, device), adapted, again,
                                          device, prefix);
  }
  WanTransformer model = WanTransformer::Load(of.model, device, precision);
  if (adapted) model = model.WithAdapters(LoraOf(experiment), seed);
  model.SetBlockCheckpointing(recompute);
  return std::make_unique<WholeModel>(std::move(model), precision, prefix);
}

}  // namespace

std::unique_ptr<TrainedModel> TrainedModel::Start(const Experiment& e, at::Device device, Recomputation recompute,
                                                  Role role, const RankGroup& group) {
  const Started start{e, device, recompute, role, group};
  const std::vector<RoleExpert> experts = ExpertsOf(e, role);
  std::unique_ptr<TrainedModel> started;
  if (experts.size() == 1) {
    started = start.Transformer(experts.front().expert);
  } else {
    std::vector<TwoExperts::One> held;
    for (const auto& [expert, how] : experts) {
      TwoExperts::One& one = held.emplace_back(TwoExperts::One{expert});
      if (how == Held::kTrained) one.trained = start.Transformer(expert);
      if (how == Held::kFrozen) {
        one.frozen = std::make_unique<FrozenModel>(expert.model, PrecisionOf(e, /*frozen=*/true), device, group);
      }
    }
    started = std::make_unique<TwoExperts>(std::move(held));
  }
  started->SetRequiresGrad(true);
  return started;
}

}  // namespace sgmd
