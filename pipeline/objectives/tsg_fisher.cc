// Teacher-stop-gradient Fisher divergence alone: sgmd without the negative residual.
#include <ATen/ATen.h>

#include "pipeline/objectives/terms.h"

namespace sgmd {

GeneratorGradient TsgFisher(const ObjectiveSettings& settings, const VelocityModel& fake, const ScoredSample& s) {
  return ThroughFakeScore(fake, s, [&](const auto& x_f, const auto& x_r, const auto& x_g) {
    return FisherTerm(x_f, x_r, x_g, s.sigma, settings);
  });
}

}  // namespace sgmd
