#include "pipeline/objectives/objective.h"

#include <iterator>

#include "common/config/experiment.h"
#include "common/error/error.h"

namespace sgmd {

// The one place that knows them all; their names and default update ratios are kObjectives.
ObjectiveFunction Sgmd, Dmd2, TsgFisher, TsgSim;

namespace {

struct Entry {
  const char* name;
  ObjectiveFunction* function;
  bool differentiates_fake;
};
constexpr Entry kFunctions[] = {
    {"sgmd", Sgmd, true}, {"dmd2", Dmd2, false}, {"tsg_fisher", TsgFisher, true}, {"tsg_sim", TsgSim, true}};
static_assert(std::size(kFunctions) == std::size(kObjectives), "every objective needs a name and a function");

const Entry& Find(const std::string& name) {
  std::string known;
  for (const Entry& entry : kFunctions) {
    if (name == entry.name) return entry;
    known += known.empty() ? entry.name : std::string(", ") + entry.name;
  }
  throw Error("unknown objective \"" + name + "\"", {}, known + " are known");
}

}  // namespace

GeneratorGradient ComputeGeneratorGradient(const ObjectiveSettings& settings, const WanTransformer& fake,
                                           const ScoredSample& sample) {
  return Find(settings.name).function(settings, fake, sample);
}

bool DifferentiatesFakeScore(const std::string& name) { return Find(name).differentiates_fake; }

}  // namespace sgmd
