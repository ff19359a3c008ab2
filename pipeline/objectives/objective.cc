#include "pipeline/objectives/objective.h"

namespace sgmd {

// The one place that knows them all.
ObjectiveFunction Sgmd, Dmd2, TsgFisher, TsgSim;

namespace {

struct Entry {
  ObjectiveFunction* function;
  bool differentiates_fake;
};
constexpr Entry kEntries[] = {{Sgmd, true}, {Dmd2, false}, {TsgFisher, true}, {TsgSim, true}};  // in order of Objective

const Entry& EntryOf(Objective objective) { return kEntries[static_cast<std::size_t>(objective)]; }

}  // namespace

GeneratorGradient ComputeGeneratorGradient(const ObjectiveSettings& settings, const VelocityModel& fake,
                                           const ScoredSample& sample) {
  return EntryOf(settings.name).function(settings, fake, sample);
}

bool DifferentiatesFakeScore(Objective objective) { return EntryOf(objective).differentiates_fake; }

}  // namespace sgmd
