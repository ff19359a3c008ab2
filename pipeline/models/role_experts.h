// The transformers that a role's processes hold: one, or of Wan2.2-A14B's two experts those that the role runs. No
// LibTorch.
#pragma once

#include <filesystem>
#include <vector>

#include "common/config/experiment.h"
#include "common/storage/model_folder.h"
#include "pipeline/flow/guidance.h"

namespace sgmd {

/// FindExperts(model), the first of two from `boundary` on; 0: from where the model's folder says.
std::vector<Expert> FindExperts(const std::filesystem::path& model, double boundary);

/// What the teacher's scores are guided with.
Guidance GuidanceOf(const Experiment& experiment);

/// What a role does with one of its model's transformers.
enum class Held {
  kNot,      // it never runs it
  kFrozen,   // it runs it as it is
  kTrained,  // of the generator and the fake score
};
struct RoleExpert {
  Expert expert;
  Held held = Held::kNot;
};

/// The transformers of ModelOf(experiment, role), by falling min_sigma. By [schedule] experts: what is trained is
/// scored on its own side of [model] boundary alone, so teachers and the fake score hold that side, and the generator
/// also the high-noise expert where a rollout goes through it. Throws Error as FindExperts does.
std::vector<RoleExpert> ExpertsOf(const Experiment& experiment, Role role);

}  // namespace sgmd
