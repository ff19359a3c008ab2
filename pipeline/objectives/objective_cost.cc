#include "pipeline/objectives/objective_cost.h"

namespace sgmd {

bool DifferentiatesFakeScore(Objective objective) { return objective != Objective::kDmd2; }

}  // namespace sgmd
