#include "pipeline/training/stability.h"

#include <cmath>

#include "common/error/error.h"
#include "common/log/log.h"

namespace sgmd {

std::map<std::string, double> StabilityMonitor::Observe(std::int64_t step, const AdamW::StepReport& report,
                                                        double loss) {
  std::map<std::string, double> scalars;
  if (report.skipped) {
    ++skipped_;
    ++skips_in_a_row_;
    LogWarning(role_, " step ", step, " skipped: gradient norm ", report.gradient_norm, ", loss ", loss, " (",
               skips_in_a_row_, " of ", kSkipsToRollBack, " in a row before the run goes back to its last checkpoint)");
  } else {
    skips_in_a_row_ = 0;
    scalars[role_ + "_grad_norm_ratio"] = Ratio(role_ + "_grad_norm", report.gradient_norm, step);
    scalars[loss_name_ + "_ratio"] = Ratio(loss_name_, std::abs(loss), step);
  }
  scalars[role_ + "_skipped_steps"] = static_cast<double>(skipped_);
  return scalars;
}

double StabilityMonitor::Ratio(const std::string& name, double value, std::int64_t step) {
  constexpr double kMemory = 0.98;
  const auto [mean, first] = means_.try_emplace(name, value);
  const double ratio = mean->second > 0 ? value / mean->second : 1;
  if (!first) mean->second = kMemory * mean->second + (1 - kMemory) * value;
  if (ratio > kSpike) LogWarning(name, " is ", value, " at step ", step, ", ", ratio, " times its running mean");
  return ratio;
}

}  // namespace sgmd
