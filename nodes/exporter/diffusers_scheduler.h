// The scheduler of diffusers that samples a student as it was trained.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "nodes/exporter/student_schedule.h"

namespace sgmd {

/// Two settings of FlowMatchEulerDiscreteScheduler.
struct FlowMatchGrid {
  double shift = 1.0, shift_terminal = 0.0;
};
/// Those with which its sigmas for as many steps are the student's, each within 1e-4; nothing where there are none. It
/// makes S_shift(u), u from 1 evenly down to S_shift(0.001), and then stretches 1 - sigma so that the last
/// sigma is shift_terminal (scheduling_flow_match_euler_discrete.py: __init__, set_timesteps). So it reaches every grid
/// of two or three steps from 1000 down, and those of evenly spaced steps of any number.
std::optional<FlowMatchGrid> FlowMatchGridOf(const StudentSchedule& schedule);

struct DiffusersScheduler {
  std::string name;                  // of its class
  nlohmann::ordered_json arguments;  // of its constructor
  bool makes_grid = true;            // its sigmas are the student's; else they must be given to it

  /// Along the velocity: UniPC of order 1 without corrector, which is Euler (wan_facts §5 "Inference"). With new noise:
  /// FlowMatchEulerDiscreteScheduler with stochastic_sampling, whose step is RenoiseStep (since diffusers 0.34).
  static DiffusersScheduler Of(const StudentSchedule& schedule);
  /// scheduler_config.json.
  std::string Json() const;
  /// The constructor's call.
  std::string Python() const;
};

/// What exported files say that they are for: the first that knows transformer_2, expand_timesteps and
/// stochastic_sampling.
inline constexpr char kDiffusersVersion[] = "0.35.0";

}  // namespace sgmd
