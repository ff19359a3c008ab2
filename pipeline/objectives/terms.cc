#include "pipeline/objectives/terms.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "pipeline/flow/flow_matching.h"

namespace sgmd {

at::Tensor NormalisingWeight(const at::Tensor& x_g, const at::Tensor& x_r) {
  constexpr double kFloor = 1e-8;
  return 1 / ((x_g - x_r).detach().abs().mean({1, 2, 3, 4}, true) + kFloor);
}

at::Tensor PaperWeight(const at::Tensor& sigma, double cap) {
  const at::Tensor weight = (1 - sigma).square() / sigma.pow(4);
  return cap > 0 ? weight.clamp_max(cap) : weight;
}

at::Tensor ScoreWeight(const at::Tensor& x_g, const at::Tensor& x_r, const at::Tensor& sigma,
                       const ObjectiveSettings& settings) {
  if (settings.weighting == Weighting::kLightx2v) return NormalisingWeight(x_g, x_r);
  return Broadcast(PaperWeight(sigma, settings.weight_cap), x_g);
}

at::Tensor FisherTerm(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g, const at::Tensor& sigma,
                      const ObjectiveSettings& settings) {
  return 0.5 * (ScoreWeight(x_g, x_r, sigma, settings) * (x_f - x_r.detach()).square()).mean();
}

at::Tensor NegativeResidualTerm(const at::Tensor& x_f, const at::Tensor& x_g, const at::Tensor& sigma,
                                Weighting weighting) {
  if (weighting == Weighting::kPaper) return 0.5 * (x_g.detach() - x_f).square().mean();
  const at::Tensor d = ((x_f - x_g) / Broadcast(sigma, x_f)).detach();
  const at::Tensor linear = (d * x_f).mean();  // gradient d / numel
  return linear + (0.5 * d.square().mean() - linear).detach();
}

at::Tensor ScoreIdentityTerm(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g,
                             const at::Tensor& sigma, const ObjectiveSettings& settings) {
  return (ScoreWeight(x_g, x_r, sigma, settings) * (x_r.detach() - x_f) * (x_f - x_g)).mean();
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
                                   const at::Tensor& noise, const Conditioning& condition, Weighting weighting) {
  const at::Tensor x_s = AddNoise(x_g, noise, sigma);
  return ResidualContractionLoss(fake.Forward(x_s, sigma, condition), x_s, x_g, sigma, noise, weighting);
}

at::Tensor ResidualContractionLoss(const at::Tensor& velocity, const at::Tensor& x_s, const at::Tensor& x_g,
                                   const at::Tensor& sigma, const at::Tensor& noise, Weighting weighting) {
  if (weighting == Weighting::kPaper) return 0.5 * at::mse_loss(CleanFromVelocity(x_s, velocity, sigma), x_g);
  return 0.5 * at::mse_loss(velocity, noise - x_g);
}

}  // namespace sgmd
