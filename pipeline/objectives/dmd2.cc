// DMD2 (wan_facts §5 "Plain video_dmd"): the normalised score difference itself, on x_g, detached. One forward.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "pipeline/flow/flow_matching.h"
#include "pipeline/objectives/terms.h"

namespace sgmd {

GeneratorGradient Dmd2(const ObjectiveSettings&, const VelocityModel& fake, const ScoredSample& s) {
  c10::NoGradGuard no_grad;
  const at::Tensor x_r = CleanFromVelocity(s.x_s, s.teacher_velocity, s.sigma);
  const at::Tensor x_f = CleanFromVelocity(s.x_s, fake.Forward(s.x_s, s.sigma, s.condition), s.sigma);
  const at::Tensor gradient = NormalisingWeight(s.x_g, x_r) * (x_f - x_r);
  return {gradient / static_cast<double>(gradient.numel()),
          {{"generator_loss", 0.5 * gradient.square().mean().item<double>()}}};
}

}  // namespace sgmd
