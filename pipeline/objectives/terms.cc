#include "pipeline/objectives/terms.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "pipeline/flow/flow_matching.h"

namespace sgmd {

at::Tensor SampleNormaliser(const at::Tensor& x_g, const at::Tensor& x_r) {
  return (x_g - x_r).detach().abs().mean({1, 2, 3, 4}, true);
}

at::Tensor ScoreWeight(const at::Tensor& x_g, const at::Tensor& x_r, const at::Tensor& sigma, Weighting weighting) {
  constexpr double kFloor = 1e-8;
  if (weighting != Weighting::kPaper) return 1 / (SampleNormaliser(x_g, x_r) + kFloor);
  const at::Tensor s = Broadcast(sigma, x_g);
  return (1 - s).square() / s.pow(4);
}

at::Tensor FisherTerm(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g, const at::Tensor& sigma,
                      Weighting weighting) {
  return 0.5 * (ScoreWeight(x_g, x_r, sigma, weighting) * (x_f - x_r.detach()).square()).mean();
}

at::Tensor NegativeResidualTerm(const at::Tensor& x_f, const at::Tensor& x_g, const at::Tensor& sigma,
                                Weighting weighting) {
  if (weighting == Weighting::kPaper) return 0.5 * (x_g.detach() - x_f).square().mean();
  const at::Tensor d = ((x_f - x_g) / Broadcast(sigma, x_f)).detach();
  const at::Tensor linear = (d * x_f).mean();  // gradient d / numel
  return linear + (0.5 * d.square().mean() - linear).detach();
}

at::Tensor ScoreIdentityTerm(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g,
                             const at::Tensor& sigma, Weighting weighting) {
  return (ScoreWeight(x_g, x_r, sigma, weighting) * (x_r.detach() - x_f) * (x_f - x_g)).mean();
}

GeneratorGradient ThroughFakeScore(
    const VelocityModel& fake, const ScoredSample& s,
    const std::function<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&)>& loss) {
  const at::Tensor x_s = s.x_s.detach().requires_grad_(true), x_g = s.x_g.detach().requires_grad_(true);
  const at::Tensor x_r = CleanFromVelocity(s.x_s, s.teacher_velocity, s.sigma);
  c10::AutoGradMode with_gradient(true);
  const at::Tensor x_f = CleanFromVelocity(x_s, fake.Forward(x_s, s.sigma, s.condition), s.sigma);
  const at::Tensor value = loss(x_f, x_r, x_g);
  const auto gradients = torch::autograd::grad({value}, {x_s, x_g}, {}, std::nullopt, false, /*allow_unused=*/true);
  at::Tensor gradient = (1 - Broadcast(s.sigma, x_s)) * gradients[0];
  if (gradients[1].defined()) gradient = gradient + gradients[1];
  return {gradient, {{"generator_loss", value.item<double>()}}};
}

at::Tensor ResidualContractionLoss(const VelocityModel& fake, const at::Tensor& x_g, const at::Tensor& sigma,
                                   const at::Tensor& noise, const Conditioning& condition) {
  const at::Tensor velocity = fake.Forward(AddNoise(x_g, noise, sigma), sigma, condition);
  return 0.5 * at::mse_loss(velocity, noise - x_g);
}

}  // namespace sgmd
