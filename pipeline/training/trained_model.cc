#include "pipeline/training/trained_model.h"

#include <ATen/ATen.h>

#include <map>

#include "pipeline/flow/random.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/parallel/sharded_wan.h"
#include "pipeline/training/role_model.h"

namespace sgmd {
namespace {

class WholeModel : public TrainedModel {
 public:
  WholeModel(WanTransformer model, WanPrecision precision)
      : TrainedModel(!model.adapters().empty(), model.block_checkpointing()),
        model_(std::move(model)),
        layout_(LayOutTrained(model_.trained(), precision)) {}

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override {
    return model_.Forward(x, sigma, condition);
  }
  const WanConfig& config() const override { return model_.config(); }
  at::Device device() const override { return model_.device(); }
  void SetRequiresGrad(bool requires_grad) override { model_.SetRequiresGrad(requires_grad); }
  const NamedTensors& trained() const override { return model_.trained(); }
  ParameterPlaces Places() const override {
    ParameterPlaces places;
    for (const auto& [name, tensor] : trained()) places[name] = {{name, tensor.sizes().vec(), 0, tensor.numel(), 0}};
    return places;
  }
  double Norm(const std::vector<at::Tensor>& gradients) const override {
    std::map<std::string, at::Tensor> by_name;
    for (std::size_t i = 0; i < gradients.size(); ++i) by_name[trained()[i].first] = gradients[i];
    return GrainNorm(layout_, by_name);
  }
  void SkipForward() const override {}
  void ForEachWhole(const NamedTensors& tensors, const NamedTensorVisitor& visit) const override {
    for (const auto& [name, tensor] : tensors) visit(name, tensor);
  }

 private:
  WanTransformer model_;
  std::vector<ShardUnit> layout_;
};

class ShardedModel : public TrainedModel {
 public:
  ShardedModel(ShardedWan model, bool adapted, at::Device device)
      : TrainedModel(adapted, /*recomputes=*/true),
        model_(std::move(model)),
        device_(device),
        trained_(model_.parameters().Trained()) {}

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override {
    return model_.Forward(x, sigma, condition);
  }
  const WanConfig& config() const override { return model_.config(); }
  at::Device device() const override { return device_; }
  void SetRequiresGrad(bool requires_grad) override { model_.parameters().SetRequiresGrad(requires_grad); }
  const NamedTensors& trained() const override { return trained_; }
  ParameterPlaces Places() const override {
    const std::vector<Slices> slices = model_.parameters().PlacesOfTrained();
    ParameterPlaces places;
    for (std::size_t i = 0; i < slices.size(); ++i) places[trained_[i].first] = slices[i];
    return places;
  }
  double Norm(const std::vector<at::Tensor>& gradients) const override { return model_.parameters().Norm(gradients); }
  void SkipForward() const override { model_.SkipForward(); }
  void ForEachWhole(const NamedTensors& tensors, const NamedTensorVisitor& visit) const override {
    std::vector<at::Tensor> shards;
    for (const auto& [name, shard] : tensors) shards.push_back(shard);
    model_.parameters().ForEachWhole(shards, visit);
  }

 private:
  ShardedWan model_;
  at::Device device_;
  NamedTensors trained_;
};

}  // namespace

std::unique_ptr<TrainedModel> TrainedModel::Start(const Experiment& e, at::Device device, Recomputation recompute,
                                                  Role role, const RankGroup& group) {
  const bool adapted = e.lora.rank > 0;
  const WanPrecision precision = PrecisionOf(e, /*frozen=*/adapted);
  const std::uint64_t seed = SeedFor(e.seed, 0, 0, Spell(role));
  const std::filesystem::path& start = ModelOf(e, role);
  std::unique_ptr<TrainedModel> started;
  if (group.ranks() > 1) {
    ShardedWan model =
        ShardedWan::Load(start, {precision, LoraOf(e), true, group.sequence.get(), recompute.keep_attention}, seed,
                         *group.device, device);
    started = std::make_unique<ShardedModel>(std::move(model), adapted, device);
  } else {
    WanTransformer model = WanTransformer::Load(start, device, precision);
    if (adapted) model = model.WithAdapters(LoraOf(e), seed);
    model.SetBlockCheckpointing(recompute);
    started = std::make_unique<WholeModel>(std::move(model), precision);
  }
  started->SetRequiresGrad(true);
  return started;
}

}  // namespace sgmd
