// Score gradient matching: Fisher term with the teacher stop-gradient, minus lambda times the negative residual (DESIGN
// and arXiv 2605.30116; both weightings in wan_facts §5 "Generator loss").
#include <ATen/ATen.h>

#include "pipeline/objectives/terms.h"

namespace sgmd {

GeneratorGradient Sgmd(const ObjectiveSettings& settings, const VelocityModel& fake, const ScoredSample& s) {
  at::Tensor fisher, residual;
  GeneratorGradient result = ThroughFakeScore(fake, s, [&](const auto& x_f, const auto& x_r, const auto& x_g) {
    fisher = FisherTerm(x_f, x_r, x_g, s.sigma, settings);
    residual = NegativeResidualTerm(x_f, s.x_g, s.sigma, settings.weighting);
    return fisher - settings.lambda * residual;
  });
  result.terms["fisher_loss"] = fisher.item<double>();
  result.terms["negative_residual"] = residual.item<double>();
  return result;
}

}  // namespace sgmd
