#include "pipeline/training/adamw.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

namespace sgmd {
namespace {

at::Tensor Count(std::int64_t value) { return at::full({1}, value, at::kLong); }

// Loads named tensors of which one is a step counter.
std::int64_t LoadWithCounter(const SafetensorsFile& file, NamedTensors state, const std::string& counter) {
  LoadTensors(file, state);
  for (const auto& [name, tensor] : state) {
    if (name == counter) return tensor.item<std::int64_t>();
  }
  return 0;
}

}  // namespace

double GlobalNorm(const std::vector<at::Tensor>& tensors) {
  double sum = 0;  // float64 and in a fixed order: the same on every run
  for (const at::Tensor& t : tensors) {
    if (t.defined()) sum += std::pow(t.norm().item<double>(), 2);
  }
  return std::sqrt(sum);
}

AdamW::AdamW(NamedTensors parameters, const OptimizerConfig& config)
    : config_(config), parameters_(std::move(parameters)) {
  for (const auto& [name, p] : parameters_) {
    second_.push_back(at::zeros_like(p));
    if (config_.beta1 > 0) first_.push_back(at::zeros_like(p));
  }
}

AdamW::StepReport AdamW::Step(double scale) {
  c10::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (auto& [name, p] : parameters_) {
    gradients.push_back(p.grad());
    p.mutable_grad() = at::Tensor();
  }
  StepReport report;
  report.gradient_norm = GlobalNorm(gradients);
  report.skipped = !std::isfinite(report.gradient_norm);
  if (report.skipped) return report;
  ++steps_;
  const double warmup =
      config_.warmup_steps == 0
          ? 1.0
          : std::min(1.0, static_cast<double>(steps_) / static_cast<double>(config_.warmup_steps));
  report.learning_rate = config_.learning_rate * scale * warmup;
  const double clip = report.gradient_norm > config_.clip_norm ? config_.clip_norm / report.gradient_norm : 1.0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& p = parameters_[i].second;
    Update(i, gradients[i].defined() ? (clip < 1 ? gradients[i] * clip : gradients[i]) : at::zeros_like(p),
           report.learning_rate);
  }
  return report;
}

void AdamW::Update(std::size_t i, at::Tensor gradient, double learning_rate) {
  at::Tensor& p = parameters_[i].second;
  const double correction2 = 1 - std::pow(config_.beta2, static_cast<double>(steps_));
  second_[i].mul_(config_.beta2).addcmul_(gradient, gradient, 1 - config_.beta2);
  double step_size = learning_rate;
  if (config_.beta1 > 0) {
    first_[i].mul_(config_.beta1).add_(gradient, 1 - config_.beta1);
    gradient = first_[i];
    step_size /= 1 - std::pow(config_.beta1, static_cast<double>(steps_));
  }
  p.mul_(1 - learning_rate * config_.weight_decay);
  const at::Tensor denominator = (second_[i] / correction2).sqrt_().add_(config_.epsilon);
  p.addcdiv_(gradient, denominator, -step_size);
}

NamedTensors AdamW::State() const {
  NamedTensors state;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    state.emplace_back(parameters_[i].first + ".v", second_[i]);
    if (config_.beta1 > 0) state.emplace_back(parameters_[i].first + ".m", first_[i]);
  }
  state.emplace_back("adamw.steps", Count(steps_));
  return state;
}

void AdamW::LoadState(const SafetensorsFile& file) { steps_ = LoadWithCounter(file, State(), "adamw.steps"); }

Ema::Ema(const NamedTensors& parameters, double decay) : decay_(decay) {
  for (const auto& [name, p] : parameters) average_.emplace_back(name, p.detach().clone());
}

void Ema::Update(const NamedTensors& parameters) {
  c10::NoGradGuard no_grad;
  ++updates_;
  const double n = static_cast<double>(updates_), decay = std::min(decay_, (1 + n) / (10 + n));
  for (std::size_t i = 0; i < parameters.size(); ++i) average_[i].second.lerp_(parameters[i].second, 1 - decay);
}

NamedTensors Ema::State() const {
  NamedTensors state = average_;
  state.emplace_back("ema.updates", Count(updates_));
  return state;
}

void Ema::LoadState(const SafetensorsFile& file) { updates_ = LoadWithCounter(file, State(), "ema.updates"); }

}  // namespace sgmd
