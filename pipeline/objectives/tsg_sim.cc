// Score implicit matching with the teacher stop-gradient: the score identity term, weighted as the Fisher term.
#include <ATen/ATen.h>

#include "pipeline/objectives/terms.h"

namespace sgmd {

GeneratorGradient TsgSim(const ObjectiveSettings& settings, const VelocityModel& fake, const ScoredSample& s) {
  return ThroughFakeScore(fake, s, [&](const auto& x_f, const auto& x_r, const auto& x_g) {
    return ScoreIdentityTerm(x_f, x_r, x_g, s.sigma, settings);
  });
}

}  // namespace sgmd
