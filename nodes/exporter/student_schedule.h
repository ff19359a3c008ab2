// The few-step schedule that an exported student is to be run with.
#pragma once

#include <cstdint>
#include <vector>

#include "nodes/exporter/student_source.h"

namespace sgmd {

/// Of a student; the published one (wan_facts §5) where the source has no experiment.
struct StudentSchedule {
  std::vector<std::int64_t> steps{1000, 750, 500, 250};  // timesteps before the shift
  double shift = 5.0;
  RolloutForm rollout = RolloutForm::kEuler;

  static StudentSchedule Of(const StudentSource& student);
  /// Whether the steps are evenly spaced from 1000 down: what schedulers of other tools make by themselves.
  bool IsEven() const;
  /// The noise levels of the steps and the last one, 0 (StudentSigmas).
  std::vector<double> Sigmas() const;
  /// Whether there is new noise on the way. A single step has none.
  bool Renoises() const { return rollout == RolloutForm::kRenoise && steps.size() > 1; }
  /// How many steps, from the first, are at or above `boundary`: those of the high-noise expert.
  std::size_t StepsFrom(double boundary) const;
  /// Whether diffusers, which goes by timesteps that are rounded down, gives the same steps to each expert.
  bool SplitsInDiffusersAt(double boundary) const;
};

}  // namespace sgmd
