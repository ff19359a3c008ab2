#include "nodes/exporter/diffusers_scheduler.h"

#include <cmath>

#include "common/error/error.h"
#include "pipeline/flow/flow_matching.h"

namespace sgmd {
namespace {

using nlohmann::ordered_json;

constexpr double kSmallest = 0.001;     // the scheduler's last sigma before any shift
constexpr double kWithin = 1e-4;        // of the student's sigmas
constexpr double kLargestShift = 1000;  // either way
constexpr int kHalvings = 200;

// How far 1 - sigma goes in its first i steps, in parts of all its n - 1: what the stretch leaves as it is.
double PartOfWay(double shift, std::size_t i, std::size_t n) {
  const double last = Shift(kSmallest, shift), part = static_cast<double>(i) / static_cast<double>(n - 1);
  return (1 - Shift(1 - part * (1 - last), shift)) / (1 - Shift(last, shift));
}

// The shift with which the first step is `part` of the way: the larger the shift, the smaller the step.
double ShiftOf(double part, std::size_t n) {
  double low = 1 / kLargestShift, high = kLargestShift;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = std::sqrt(low * high);
    (PartOfWay(middle, 1, n) > part ? low : high) = middle;
  }
  return std::sqrt(low * high);
}

std::string InPython(const ordered_json& value) {
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  if (value.is_number_float()) return StrCat(value.get<double>());
  if (!value.is_array()) return value.dump();
  std::string text;
  for (const ordered_json& entry : value) text += StrCat(text.empty() ? "" : ", ", entry.dump());
  return "[" + text + "]";
}

// Order 1 with the corrector off is Euler; with flow sigmas and an even schedule its sigmas are the student's
// (wan_facts §5), up to 0.001: its unshifted grid ends there and not at 0.
DiffusersScheduler UniPcOf(const StudentSchedule& schedule) {
  std::vector<std::size_t> uncorrected;
  for (std::size_t i = 0; i + 1 < schedule.steps.size(); ++i) uncorrected.push_back(i);
  return {"UniPCMultistepScheduler",
          {{"prediction_type", "flow_prediction"},
           {"use_flow_sigmas", true},
           {"flow_shift", schedule.shift},
           {"solver_order", 1},
           {"disable_corrector", uncorrected}},
          schedule.IsEven()};
}

}  // namespace

std::optional<FlowMatchGrid> FlowMatchGridOf(const StudentSchedule& schedule) {
  const std::size_t n = schedule.steps.size();
  if (n < 2 || schedule.steps.front() != 1000) return {};
  const std::vector<double> sigmas = schedule.Sigmas();
  const double way = 1 - sigmas[n - 1];
  const double shift = n == 2 ? 1 : ShiftOf((1 - sigmas[1]) / way, n);
  for (std::size_t i = 0; i < n; ++i) {
    if (std::abs(1 - PartOfWay(shift, i, n) * way - sigmas[i]) > kWithin) return {};
  }
  return FlowMatchGrid{shift, sigmas[n - 1]};
}

DiffusersScheduler DiffusersScheduler::Of(const StudentSchedule& schedule) {
  if (!schedule.Renoises()) return UniPcOf(schedule);
  const std::optional<FlowMatchGrid> grid = FlowMatchGridOf(schedule);
  DiffusersScheduler scheduler{
      "FlowMatchEulerDiscreteScheduler", {{"shift", grid ? grid->shift : 1.0}}, grid.has_value()};
  if (grid) scheduler.arguments["shift_terminal"] = grid->shift_terminal;
  scheduler.arguments["stochastic_sampling"] = true;
  return scheduler;
}

std::string DiffusersScheduler::Json() const {
  ordered_json json{{"_class_name", name}, {"_diffusers_version", kDiffusersVersion}, {"num_train_timesteps", 1000}};
  json.update(arguments);
  if (name == "UniPCMultistepScheduler") {
    json.update({{"solver_type", "bh2"},
                 {"predict_x0", true},
                 {"final_sigmas_type", "zero"},
                 {"timestep_spacing", "linspace"}});
  }
  return json.dump(2) + "\n";
}

std::string DiffusersScheduler::Python() const {
  std::string text;
  for (const auto& [key, value] : arguments.items())
    text += StrCat(text.empty() ? "" : ", ", key, "=", InPython(value));
  return StrCat(name, "(", text, ")");
}

}  // namespace sgmd
