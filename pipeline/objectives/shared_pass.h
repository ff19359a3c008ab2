// One pass of a network for two gradients: to its input, for the generator, and to its parameters, for itself.
#pragma once

#include "pipeline/flow/velocity_model.h"

namespace sgmd {

/// A network of which the last pass is kept. An objective that takes its gradient through it leaves the parameters
/// alone, as through a network whose parameters need no gradient; the graph of the pass stays for a loss of velocity().
class SharedPass : public VelocityModel {
 public:
  /// `model` outlives it; its parameters require gradients.
  explicit SharedPass(const VelocityModel& model) : model_(model) {}

  /// Differentiable in x, once or more often. Records the pass also where no gradient is to be recorded.
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override;

  /// Of the last pass, differentiable in the parameters alone.
  const at::Tensor& velocity() const { return velocity_; }

 private:
  const VelocityModel& model_;
  mutable at::Tensor velocity_;
};

}  // namespace sgmd
