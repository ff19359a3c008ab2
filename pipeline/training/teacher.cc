#include "pipeline/training/teacher.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "pipeline/flow/sampling.h"
#include "pipeline/objectives/diversity.h"
#include "pipeline/training/role_model.h"

namespace sgmd {

Teacher::Teacher(const Experiment& experiment, at::Device device)
    : bank_(PromptBank::Open(experiment.model.prompts)),
      model_(FrozenTeacher(experiment, device)),
      guidance_(experiment.model.guidance),
      scores_(experiment.precision.scores == Compute::kBfloat16 ? at::kBFloat16 : at::kFloat),
      anchor_sigmas_(AnchorSigmas(experiment.diversity.anchor_steps, experiment.diversity.anchor_grid,
                                  experiment.schedule.student_shift)) {
  RequireFits(bank_, model_.config());
}

at::Tensor Teacher::Score(const at::Tensor& x_s, const at::Tensor& sigma, const std::vector<Digest>& prompts) {
  c10::NoGradGuard no_grad;
  const std::int64_t batch = x_s.size(0);
  work_.forward += guidance_ == 1.0 ? batch : 2 * batch;
  const at::Device device = model_.device();
  return GuidedVelocity(model_, x_s.to(device), sigma.to(device), ConditionOn(prompts, bank_, model_), Negative(batch),
                        guidance_)
      .to(scores_)
      .to(at::kCPU)
      .contiguous();
}

at::Tensor Teacher::Anchor(const at::Tensor& noise, const std::vector<Digest>& prompts) {
  const std::int64_t batch = noise.size(0);
  const auto steps = static_cast<std::int64_t>(anchor_sigmas_.size()) - 1;
  work_.forward += (guidance_ == 1.0 ? batch : 2 * batch) * steps;
  return EulerSample(model_, noise.to(model_.device()), anchor_sigmas_, ConditionOn(prompts, bank_, model_),
                     Negative(batch), guidance_)
      .to(at::kCPU)
      .contiguous();
}

Conditioning Teacher::Negative(std::int64_t batch) const {
  return ConditionOn(std::vector<Digest>(batch, bank_.negative()), bank_, model_);
}

}  // namespace sgmd
