#include "pipeline/training/adamw.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>
#include <numeric>

#include "common/metrics/work_count.h"
#include "pipeline/kernels/adamw_step.h"

namespace sgmd {
namespace {

constexpr std::int64_t kElementsAtOnce =
    16 << 20;  // parameters updated together, and the rest of the last tensor: bounds the temporaries

at::Tensor Count(std::int64_t value) { return at::full({1}, value, at::kLong); }

// Loads named tensors of which one is a step counter.
std::int64_t LoadWithCounter(const StateLoader& load, const NamedTensors& state, const std::string& counter) {
  load(state);
  for (const auto& [name, tensor] : state) {
    if (name == counter) return tensor.item<std::int64_t>();
  }
  return 0;
}

}  // namespace

StateLoader From(const SafetensorsFile& file) {
  return [file](const NamedTensors& state) { LoadTensors(file, state); };
}

double GlobalNorm(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> defined;
  std::copy_if(tensors.begin(), tensors.end(), std::back_inserter(defined),
               [](const at::Tensor& t) { return t.defined(); });
  if (defined.empty()) return 0;
  // One transfer from the device, then float64 in a fixed order: the same on every run.
  const at::Tensor norms = at::stack(at::_foreach_norm(defined)).to(at::TensorOptions(at::kCPU).dtype(at::kDouble));
  double sum = 0;
  for (std::int64_t i = 0; i < norms.size(0); ++i) sum += std::pow(norms.const_data_ptr<double>()[i], 2);
  return std::sqrt(sum);
}

double RateFraction(const OptimizerConfig& config, std::int64_t update) {
  const auto step = static_cast<double>(update), warmup = static_cast<double>(config.warmup_steps);
  if (update < config.warmup_steps) return step / warmup;
  if (config.decay == RateDecay::kNone) return 1;
  const double t = std::min(1.0, (step - warmup) / (static_cast<double>(config.decay_steps) - warmup));
  const double f = config.decay == RateDecay::kLinear ? 1 - t : (1 + std::cos(std::numbers::pi * t)) / 2;
  return config.final_fraction + (1 - config.final_fraction) * f;
}

AdamW::AdamW(NamedTensors parameters, const OptimizerConfig& config, GradientNorm norm, Kernels kernels,
             std::string prefix)
    : config_(config),
      norm_(std::move(norm)),
      kernels_(kernels),
      parameters_(std::move(parameters)),
      counter_(std::move(prefix) + "adamw.steps") {
  for (const auto& [name, p] : parameters_) {
    second_.push_back(at::zeros_like(p));
    if (config_.beta1 > 0) first_.push_back(at::zeros_like(p));
  }
}

AdamW::StepReport AdamW::Step(double scale, Ema* average) {
  c10::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (auto& [name, p] : parameters_) {
    gradients.push_back(p.grad());
    p.mutable_grad() = at::Tensor();
  }
  StepReport report;
  report.gradient_norm = norm_(gradients);
  report.skipped = !std::isfinite(report.gradient_norm);
  if (report.skipped) return report;
  ++steps_;
  report.learning_rate = config_.learning_rate * scale * RateFraction(config_, steps_);
  const double clip = report.gradient_norm > config_.clip_norm ? config_.clip_norm / report.gradient_norm : 1.0;
  const double weight = average == nullptr ? 0 : average->NextWeight();
  for (std::size_t first = 0, last = 0; first < parameters_.size(); first = last) {
    std::int64_t elements = 0;
    std::vector<std::size_t> left;  // what no kernel takes
    do {
      if (!gradients[last].defined()) gradients[last] = at::zeros_like(parameters_[last].second);
      elements += gradients[last].numel();
      const at::Tensor averaged = average == nullptr ? at::Tensor() : average->average_[last].second;
      if (!UpdateInOnePass(last, gradients[last], clip, report.learning_rate, averaged, weight)) left.push_back(last);
    } while (++last < parameters_.size() && elements < kElementsAtOnce);
    if (!left.empty()) Update(left, gradients, clip, report.learning_rate);
    if (!left.empty() && average != nullptr) average->Approach(parameters_, left, weight);
    CountWork();
  }
  return report;
}

bool AdamW::UpdateInOnePass(std::size_t number, const at::Tensor& gradient, double clip, double learning_rate,
                            const at::Tensor& average, double average_weight) {
  const AdamWTensors tensors{parameters_[number].second, gradient.contiguous(), second_[number],
                             config_.beta1 > 0 ? first_[number] : at::Tensor(), average};
  if (!HasAdamWKernel(kernels_, tensors)) return false;
  AdamWNumbers numbers;
  numbers.clip = clip;
  numbers.beta1 = config_.beta1;
  numbers.beta2 = config_.beta2;
  numbers.correction2 = 1 - std::pow(config_.beta2, static_cast<double>(steps_));
  numbers.epsilon = config_.epsilon;
  numbers.keep = 1 - learning_rate * config_.weight_decay;
  numbers.step_size = learning_rate / (1 - std::pow(config_.beta1, static_cast<double>(steps_)));  // 0^t is 0
  numbers.average_weight = average_weight;
  AdamWStep(tensors, numbers);
  return true;
}

// Of these parameters: a few kernels for all of them where the device can.
void AdamW::Update(const std::vector<std::size_t>& numbers, const std::vector<at::Tensor>& all_gradients, double clip,
                   double learning_rate) {
  const auto slice = [&](const std::vector<at::Tensor>& all) {
    std::vector<at::Tensor> chosen;
    for (const std::size_t i : numbers) chosen.push_back(all[i]);
    return chosen;
  };
  std::vector<at::Tensor> parameters;
  for (const std::size_t i : numbers) parameters.push_back(parameters_[i].second);
  const std::vector<at::Tensor> gradients = slice(all_gradients), second = slice(second_);
  if (clip < 1) at::_foreach_mul_(gradients, clip);
  const double correction2 = 1 - std::pow(config_.beta2, static_cast<double>(steps_));
  at::_foreach_mul_(second, config_.beta2);
  at::_foreach_addcmul_(second, gradients, gradients, 1 - config_.beta2);
  std::vector<at::Tensor> direction = gradients;
  double step_size = learning_rate;
  if (config_.beta1 > 0) {
    direction = slice(first_);
    at::_foreach_mul_(direction, config_.beta1);
    at::_foreach_add_(direction, gradients, 1 - config_.beta1);
    step_size /= 1 - std::pow(config_.beta1, static_cast<double>(steps_));
  }
  at::_foreach_mul_(parameters, 1 - learning_rate * config_.weight_decay);
  const std::vector<at::Tensor> denominator = at::_foreach_div(second, correction2);
  at::_foreach_sqrt_(denominator);
  at::_foreach_add_(denominator, config_.epsilon);
  at::_foreach_addcdiv_(parameters, direction, denominator, -step_size);
}

NamedTensors AdamW::State() const {
  NamedTensors state;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    state.emplace_back(parameters_[i].first + ".v", second_[i]);
    if (config_.beta1 > 0) state.emplace_back(parameters_[i].first + ".m", first_[i]);
  }
  state.emplace_back(counter_, Count(steps_));
  return state;
}

void AdamW::LoadState(const StateLoader& load) { steps_ = LoadWithCounter(load, State(), counter_); }

Ema::Ema(const NamedTensors& parameters, double decay, const std::string& prefix)
    : decay_(decay), counter_(prefix + "ema.updates") {
  for (const auto& [name, p] : parameters) average_.emplace_back(name, p.detach().clone());
}

double Ema::NextWeight() {
  ++updates_;
  const double n = static_cast<double>(updates_);
  return 1 - std::min(decay_, (1 + n) / (10 + n));
}

void Ema::Approach(const NamedTensors& parameters, const std::vector<std::size_t>& numbers, double weight) {
  std::vector<at::Tensor> averages, current;
  for (const std::size_t i : numbers) {
    averages.push_back(average_[i].second);
    current.push_back(parameters[i].second);
  }
  at::_foreach_lerp_(averages, current, weight);
}

void Ema::Update(const NamedTensors& parameters) {
  c10::NoGradGuard no_grad;
  std::vector<std::size_t> all(parameters.size());
  std::iota(all.begin(), all.end(), 0);
  Approach(parameters, all, NextWeight());
}

NamedTensors Ema::State() const {
  NamedTensors state = average_;
  state.emplace_back(counter_, Count(updates_));
  return state;
}

void Ema::LoadState(const StateLoader& load) { updates_ = LoadWithCounter(load, State(), counter_); }

}  // namespace sgmd
