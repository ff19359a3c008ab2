// AdamW with global-norm clipping, and the exponential moving average of parameters.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/config/experiment.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

/// L2 norm over all tensors together (undefined ones skipped).
double GlobalNorm(const std::vector<at::Tensor>& tensors);
/// How the norm of all gradients is found, which come in the order of the parameters (undefined: zeros).
using GradientNorm = std::function<double(const std::vector<at::Tensor>&)>;
/// Fills the tensors of a state, from a file or the files of several ranks.
using StateLoader = std::function<void(const NamedTensors& state)>;
/// LoadTensors.
StateLoader From(const SafetensorsFile& file);

class Ema;

/// What update `update`, counted from 1, takes of config.learning_rate, in [0, 1]:
///   update / warmup_steps                        up to warmup_steps
///   1                                            after them, without a decay
///   final_fraction + (1 - final_fraction) f      with one, where t = (update - warmup_steps) / (decay_steps -
///                                                warmup_steps), at most 1, and f = 1 - t (linear), or
///                                                (1 + cos(pi t)) / 2 (cosine)
double RateFraction(const OptimizerConfig& config, std::int64_t update);

/// Decoupled weight decay Adam. With beta1 = 0 (the recipe of wan_facts §5) the first moment equals the gradient and is
/// neither stored nor computed: 12 bytes a parameter instead of 16.
class AdamW {
 public:
  /// `parameters` share storage with the model. State is float32 zeros of the same shapes. `kernels`: one pass over
  /// memory (pipeline/kernels/adamw_step.h) where it can be, or ATen's operations; they differ in the last bits.
  /// `prefix`: of the counter's name in State().
  AdamW(NamedTensors parameters, const OptimizerConfig& config, GradientNorm norm = GlobalNorm,
        Kernels kernels = Kernels::kFused, std::string prefix = {});

  struct StepReport {
    double gradient_norm = 0;  // before clipping
    double learning_rate = 0;  // as used
    bool skipped = false;      // the norm was not finite: nothing was changed, the update does not count in steps()
  };
  /// One update from the parameters' .grad() (undefined counts as zero), clipped to config.clip_norm, learning rate
  /// learning_rate * scale * RateFraction(steps() + 1). Clears the gradients. `average`, of the same parameters in the
  /// same order, is updated with them unless the update is skipped.
  StepReport Step(double scale = 1.0, Ema* average = nullptr);

  std::int64_t steps() const { return steps_; }

  /// "<parameter>.v" and, with beta1 > 0, "<parameter>.m", float32; "<prefix>adamw.steps" int64 [1].
  NamedTensors State() const;
  /// `load` fills State(), or throws Error.
  void LoadState(const StateLoader& load);
  void LoadState(const SafetensorsFile& file) { LoadState(From(file)); }

 private:
  void Update(const std::vector<std::size_t>& numbers, const std::vector<at::Tensor>& all_gradients, double clip,
              double learning_rate);
  bool UpdateInOnePass(std::size_t number, const at::Tensor& gradient, double clip, double learning_rate,
                       const at::Tensor& average, double average_weight);

  OptimizerConfig config_;
  GradientNorm norm_;
  Kernels kernels_;
  NamedTensors parameters_;
  std::string counter_;
  std::vector<at::Tensor> first_, second_;
  std::int64_t steps_ = 0;
};

/// ema = decay ema + (1 - decay) parameter, after each update; the first updates use min(decay, (1 + n) / (10 + n)) so
/// that a short run does not stay at its start.
class Ema {
 public:
  Ema(const NamedTensors& parameters, double decay, const std::string& prefix = {});
  void Update(const NamedTensors& parameters);
  /// The averaged parameters under the parameters' names, and "<prefix>ema.updates" int64 [1].
  NamedTensors State() const;
  const NamedTensors& average() const { return average_; }
  void LoadState(const StateLoader& load);
  void LoadState(const SafetensorsFile& file) { LoadState(From(file)); }

 private:
  friend class AdamW;
  double NextWeight();  // counts an update: 1 - its decay
  void Approach(const NamedTensors& parameters, const std::vector<std::size_t>& numbers, double weight);

  NamedTensors average_;
  double decay_;
  std::string counter_;
  std::int64_t updates_ = 0;
};

}  // namespace sgmd
