#include "pipeline/objectives/objective.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "common/error/error.h"
#include "pipeline/flow/flow_matching.h"

namespace sgmd {
namespace {

constexpr double kNormaliserFloor = 1e-8;

GeneratorGradient SgmdGradient(const ObjectiveSettings& settings, const WanTransformer& fake, const ScoredSample& s) {
  const at::Tensor x_s = s.x_s.detach().requires_grad_(true);
  const at::Tensor x_r = CleanFromVelocity(s.x_s, s.teacher_velocity, s.sigma);
  c10::AutoGradMode with_gradient(true);
  const at::Tensor x_f = CleanFromVelocity(x_s, fake.Forward(x_s, s.sigma, s.context), s.sigma);
  const at::Tensor fisher = FisherTerm(x_f, x_r, s.x_g, s.sigma, settings.weighting);
  const at::Tensor residual = NegativeResidualTerm(x_f, s.x_g, s.sigma, settings.weighting);
  const at::Tensor loss = fisher - settings.lambda * residual;
  const at::Tensor input_gradient = torch::autograd::grad({loss}, {x_s})[0];
  return {(1 - Broadcast(s.sigma, x_s)) * input_gradient,
          {{"generator_loss", loss.item<double>()},
           {"fisher_loss", fisher.item<double>()},
           {"negative_residual", residual.item<double>()}}};
}

// DMD2 (wan_facts §5 "Plain video_dmd"): the normalised score difference itself, on x_g, detached.
GeneratorGradient Dmd2Gradient(const WanTransformer& fake, const ScoredSample& s) {
  c10::NoGradGuard no_grad;
  const at::Tensor x_r = CleanFromVelocity(s.x_s, s.teacher_velocity, s.sigma);
  const at::Tensor x_f = CleanFromVelocity(s.x_s, fake.Forward(s.x_s, s.sigma, s.context), s.sigma);
  const at::Tensor gradient = (x_f - x_r) / (SampleNormaliser(s.x_g, x_r) + kNormaliserFloor);
  return {gradient / static_cast<double>(gradient.numel()),
          {{"generator_loss", 0.5 * gradient.square().mean().item<double>()}}};
}

}  // namespace

at::Tensor SampleNormaliser(const at::Tensor& x_g, const at::Tensor& x_r) {
  return (x_g - x_r).detach().abs().mean({1, 2, 3, 4}, true);
}

at::Tensor FisherTerm(const at::Tensor& x_f, const at::Tensor& x_r, const at::Tensor& x_g, const at::Tensor& sigma,
                      const std::string& weighting) {
  const at::Tensor s = Broadcast(sigma, x_f);
  const at::Tensor weight = weighting == "paper" ? (1 - s).square() / s.pow(4)
                                                 : 1 / (SampleNormaliser(x_g, x_r) + kNormaliserFloor);
  return 0.5 * (weight * (x_f - x_r.detach()).square()).mean();
}

at::Tensor NegativeResidualTerm(const at::Tensor& x_f, const at::Tensor& x_g, const at::Tensor& sigma,
                                const std::string& weighting) {
  if (weighting == "paper") return 0.5 * (x_g.detach() - x_f).square().mean();
  const at::Tensor d = ((x_f - x_g) / Broadcast(sigma, x_f)).detach();
  const at::Tensor linear = (d * x_f).mean();  // gradient d / numel
  return linear + (0.5 * d.square().mean() - linear).detach();
}

at::Tensor ResidualContractionLoss(const WanTransformer& fake, const at::Tensor& x_g, const at::Tensor& sigma,
                                   const at::Tensor& noise, const at::Tensor& context) {
  const at::Tensor velocity = fake.Forward(AddNoise(x_g, noise, sigma), sigma, context);
  return 0.5 * at::mse_loss(velocity, noise - x_g);
}

GeneratorGradient ComputeGeneratorGradient(const ObjectiveSettings& settings, const WanTransformer& fake,
                                           const ScoredSample& sample) {
  if (settings.name == "sgmd") return SgmdGradient(settings, fake, sample);
  if (settings.name == "dmd2") return Dmd2Gradient(fake, sample);
  throw Error("unknown objective \"" + settings.name + "\"", {}, "sgmd and dmd2 are known");
}

}  // namespace sgmd
