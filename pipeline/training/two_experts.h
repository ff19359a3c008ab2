// The two experts of a trained role (Wan2.2-A14B), as one network.
#pragma once

#include <memory>
#include <vector>

#include "pipeline/models/role_experts.h"
#include "pipeline/training/frozen_model.h"
#include "pipeline/training/trained_model.h"

namespace sgmd {

/// Each pass runs the expert that its noise level is for; an update is of those that had a pass with gradients. The
/// draws of an iteration are on one side of the boundary (SamplePlan), so that this is one, and with the diversity loss
/// at most both.
class TwoExperts : public TrainedModel {
 public:
  struct One {
    Expert expert;
    std::unique_ptr<TrainedModel> trained = {};  // or
    std::unique_ptr<FrozenModel> frozen = {};    // or neither, of one that the role never runs
  };
  /// By falling min_sigma; at least one is trained. Throws Error on experts of other sizes than each other.
  explicit TwoExperts(std::vector<One> experts);

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override;
  const WanConfig& config() const override { return AnyTrained().config(); }
  at::Device device() const override { return AnyTrained().device(); }
  void SetRequiresGrad(bool requires_grad) override;
  const NamedTensors& trained() const override { return trained_; }
  ParameterPlaces Places() const override;
  std::vector<TrainedPart> Parts() const override;
  std::vector<bool> TakeUsed() override;
  void SkipForward(double sigma) const override;
  void ForEachWhole(const NamedTensors& tensors, const NamedTensorVisitor& visit) const override;

 private:
  static const TrainedModel& AnyTrained(const std::vector<One>& experts);
  const TrainedModel& AnyTrained() const { return AnyTrained(experts_); }

  std::vector<One> experts_;
  std::vector<double> min_sigmas_;
  NamedTensors trained_;
  bool requires_grad_ = false;
  mutable std::vector<bool> used_;  // by expert: since TakeUsed
};

}  // namespace sgmd
