#include "pipeline/objectives/objective.h"

namespace sgmd {

// The one place that knows them all.
ObjectiveFunction Sgmd, Dmd2, TsgFisher, TsgSim;

namespace {

constexpr ObjectiveFunction* kFunctions[] = {Sgmd, Dmd2, TsgFisher, TsgSim};  // in order of Objective

}  // namespace

GeneratorGradient ComputeGeneratorGradient(const ObjectiveSettings& settings, const VelocityModel& fake,
                                           const ScoredSample& sample) {
  return kFunctions[static_cast<std::size_t>(settings.name)](settings, fake, sample);
}

}  // namespace sgmd
