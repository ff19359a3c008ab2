#include "nodes/exporter/student_schedule.h"

#include "common/storage/model_folder.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/unipc.h"

namespace sgmd {

StudentSchedule StudentSchedule::Of(const StudentSource& student) {
  if (!student.experiment) return {};
  const Experiment::Schedule& schedule = student.experiment->schedule;
  return {schedule.student_steps, schedule.student_shift, schedule.rollout};
}

bool StudentSchedule::IsEven() const {
  const auto n = static_cast<std::int64_t>(steps.size());
  for (std::int64_t i = 0; i < n; ++i) {
    if (steps[i] * n != 1000 * (n - i)) return false;
  }
  return true;
}

std::vector<double> StudentSchedule::Sigmas() const { return StudentSigmas(steps, shift); }

std::size_t StudentSchedule::StepsFrom(double boundary) const {
  const std::vector<double> sigmas = Sigmas();
  std::size_t count = 0;
  while (count < steps.size() && IsFrom(boundary, sigmas[count])) ++count;
  return count;
}

bool StudentSchedule::SplitsInDiffusersAt(double boundary) const {
  const StepGrid theirs = UniPcGrid(TimeGrid::kDiffusers, static_cast<std::int64_t>(steps.size()), shift);
  std::size_t count = 0;
  while (count < steps.size() && theirs.timesteps[count] >= 1000 * boundary) ++count;
  return count == StepsFrom(boundary);
}

}  // namespace sgmd
