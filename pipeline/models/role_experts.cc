#include "pipeline/models/role_experts.h"

namespace sgmd {
namespace {

bool RollsOutThroughHighNoise(const Experiment& e) { return IsFrom(e.model.boundary, StudentSigma(e.schedule, 0)); }

// Anchors of the diversity loss start at sigma 1; their last step but one decides how far down the teacher goes.
bool AnchorsReachLowNoise(const Experiment& e) {
  if (e.diversity.weight == 0) return false;
  const double u = 1 - static_cast<double>(e.diversity.anchor_steps - 1) / static_cast<double>(e.diversity.anchor_grid);
  const double shift = e.schedule.student_shift;
  return !IsFrom(e.model.boundary, shift * u / (1 + (shift - 1) * u));
}

Held HeldBy(const Experiment& e, Role role, bool high) {
  const bool trains = role == Role::kGenerator || role == Role::kFakeScore;
  const TrainedExperts side = high ? TrainedExperts::kHighNoise : TrainedExperts::kLowNoise;
  if (e.schedule.experts == TrainedExperts::kBoth || e.schedule.experts == side)
    return trains ? Held::kTrained : Held::kFrozen;
  if (role == Role::kGenerator && high && RollsOutThroughHighNoise(e)) return Held::kFrozen;
  return role == Role::kTeacher && !high && AnchorsReachLowNoise(e) ? Held::kFrozen : Held::kNot;
}

}  // namespace

std::vector<Expert> FindExperts(const std::filesystem::path& model, double boundary) {
  std::vector<Expert> experts = FindExperts(model);
  if (boundary > 0 && experts.size() > 1) experts.front().min_sigma = boundary;
  return experts;
}

Guidance GuidanceOf(const Experiment& e) {
  const auto& [high, low] = std::pair(e.model.guidance, e.model.guidance_low);
  return low == 0 ? Guidance(high) : Guidance(high, low, e.model.boundary);
}

std::vector<RoleExpert> ExpertsOf(const Experiment& e, Role role) {
  const std::vector<Expert> experts = FindExperts(ModelOf(e, role), e.model.boundary);
  if (experts.size() == 1)
    return {{experts.front(), role == Role::kGenerator || role == Role::kFakeScore ? Held::kTrained : Held::kFrozen}};
  std::vector<RoleExpert> held;
  for (const Expert& expert : experts) held.push_back({expert, HeldBy(e, role, expert.min_sigma > 0)});
  return held;
}

}  // namespace sgmd
