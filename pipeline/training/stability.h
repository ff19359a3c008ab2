// Whether a trained role is still healthy: what its steps look like against the recent past.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "pipeline/training/adamw.h"

namespace sgmd {

/// Fed once an update. A step that was skipped because its gradient was not finite is counted; three in a row mean that
/// the weights themselves are lost, and the run should go back to its last checkpoint.
class StabilityMonitor {
 public:
  static constexpr int kSkipsToRollBack = 3;
  static constexpr double kSpike = 10;  // a norm or |loss| this many times its running mean is warned of

  /// `role` and `loss_name` name the scalars, such as "generator" and "generator_loss".
  StabilityMonitor(std::string role, std::string loss_name)
      : role_(std::move(role)), loss_name_(std::move(loss_name)) {}

  /// Returns what to plot: <role>_grad_norm_ratio and <loss_name>_ratio (value over its running mean of about 50 steps,
  /// 1 at first) and <role>_skipped_steps. Logs a warning for a skipped step and for a spike.
  std::map<std::string, double> Observe(std::int64_t step, const AdamW::StepReport& report, double loss);

  /// Whether the last update was made and not skipped: a checkpoint of now is worth going back to.
  bool healthy() const { return skips_in_a_row_ == 0; }
  bool must_roll_back() const { return skips_in_a_row_ >= kSkipsToRollBack; }

 private:
  double Ratio(const std::string& name, double value, std::int64_t step);

  std::string role_, loss_name_;
  std::map<std::string, double> means_;
  int skips_in_a_row_ = 0;
  std::int64_t skipped_ = 0;
};

}  // namespace sgmd
