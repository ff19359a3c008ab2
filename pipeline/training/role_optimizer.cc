#include "pipeline/training/role_optimizer.h"

#include <ATen/ATen.h>

#include <cmath>
#include <map>

namespace sgmd {
namespace {

NamedTensors StatesOf(const auto& all) {
  NamedTensors states;
  for (const auto& one : all) {
    const NamedTensors state = one.State();
    states.insert(states.end(), state.begin(), state.end());
  }
  return states;
}

// The files of a state are read as a whole; each of `all` then finds its own in what was read.
void LoadStates(auto& all, const StateLoader& load) {
  const NamedTensors states = StatesOf(all);
  load(states);
  const std::map<std::string, at::Tensor> by_name(states.begin(), states.end());
  for (auto& one : all) {
    one.LoadState([&](const NamedTensors& state) {
      for (const auto& [name, tensor] : state) tensor.copy_(by_name.at(name));
    });
  }
}

}  // namespace

RoleOptimizer::RoleOptimizer(TrainedModel& model, const OptimizerConfig& config, Kernels kernels, double ema_decay)
    : model_(model), parts_(model.Parts()) {
  for (const TrainedPart& part : parts_) {
    optimizers_.emplace_back(part.trained, config, part.norm, kernels, part.prefix);
    if (ema_decay > 0) averages_.emplace_back(part.trained, ema_decay, part.prefix);
  }
}

AdamW::StepReport RoleOptimizer::Step() {
  const std::vector<bool> used = model_.TakeUsed();
  AdamW::StepReport all;
  double squares = 0;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (!used[i]) continue;
    const AdamW::StepReport report = optimizers_[i].Step(1.0, averages() ? &averages_[i] : nullptr);
    squares += report.gradient_norm * report.gradient_norm;
    all.learning_rate = report.learning_rate;
    all.skipped |= report.skipped;
    all.gradient_norm = parts_.size() == 1 ? report.gradient_norm : std::sqrt(squares);
  }
  return all;
}

NamedTensors RoleOptimizer::State() const { return StatesOf(optimizers_); }
void RoleOptimizer::LoadState(const StateLoader& load) { LoadStates(optimizers_, load); }
NamedTensors RoleOptimizer::AverageState() const { return StatesOf(averages_); }
void RoleOptimizer::LoadAverageState(const StateLoader& load) { LoadStates(averages_, load); }

NamedTensors RoleOptimizer::Best() const {
  NamedTensors best;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const NamedTensors& tensors = averages() ? averages_[i].average() : parts_[i].trained;
    best.insert(best.end(), tensors.begin(), tensors.end());
  }
  return best;
}

std::int64_t RoleOptimizer::StepsOf(const std::string& prefix) const {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].prefix == prefix) return optimizers_[i].steps();
  }
  return 0;
}

}  // namespace sgmd
