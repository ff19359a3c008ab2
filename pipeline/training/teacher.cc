#include "pipeline/training/teacher.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "pipeline/device/host_copy.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/models/role_experts.h"
#include "pipeline/models/wan_experts.h"
#include "pipeline/objectives/diversity.h"
#include "pipeline/training/role_model.h"

namespace sgmd {

// Runs the expert that a batch is for.
class Teacher::Routed : public VelocityModel {
 public:
  explicit Routed(const Teacher& teacher) : teacher_(teacher) {}
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override {
    return teacher_.experts_[ExpertAt(teacher_.min_sigmas_, sigma)]->Forward(x, sigma, condition);
  }

 private:
  const Teacher& teacher_;
};

Teacher::Teacher(const Experiment& e, at::Device device, const RankGroup& group, bool offload)
    : bank_(PromptBank::Open(e.model.prompts)),
      device_(device),
      guidance_(GuidanceOf(e)),
      scores_(e.precision.scores == Compute::kBfloat16 ? at::kBFloat16 : at::kFloat),
      anchor_sigmas_(AnchorSigmas(e.diversity.anchor_steps, e.diversity.anchor_grid, e.schedule.student_shift)) {
  for (const auto& [expert, held] : ExpertsOf(e, Role::kTeacher)) {
    min_sigmas_.push_back(expert.min_sigma);
    experts_.emplace_back();
    if (held == Held::kNot) continue;
    experts_.back() =
        std::make_unique<FrozenModel>(expert.model, PrecisionOf(e, /*frozen=*/true), device, group, offload);
    config_ = experts_.back()->config();
  }
  RequireFits(bank_, config_, e.data.latent);
}

at::Tensor Teacher::Score(const at::Tensor& x_s, const at::Tensor& sigma, const std::vector<Digest>& prompts) {
  return Score(x_s, sigma, prompts, Asked({sigma}));
}

std::int64_t Teacher::Asked(const std::vector<at::Tensor>& sigmas) const {
  std::int64_t asked = 0;
  for (const at::Tensor& sigma : sigmas) asked |= std::int64_t{1} << ExpertAt(min_sigmas_, sigma);
  return asked;
}

at::Tensor Teacher::Score(const at::Tensor& x_s, const at::Tensor& sigma, const std::vector<Digest>& prompts,
                          std::int64_t asked) {
  c10::NoGradGuard no_grad;
  const std::size_t expert = ExpertAt(min_sigmas_, sigma);
  const std::int64_t batch = x_s.size(0), own = std::int64_t{1} << expert;
  const bool one = guidance_.high == guidance_.low;  // else the batch is on one side of the boundary
  const double guidance = one ? guidance_.high : guidance_.At(sigma.select(0, 0).item<double>());
  work_.forward += guidance == 1.0 ? batch : 2 * batch;
  SkipScore(asked & (own - 1));
  const at::Tensor velocity = GuidedVelocity(*experts_[expert], x_s.to(device_), sigma.to(device_),
                                             ConditionOn(prompts), Negative(batch), guidance);
  SkipScore(asked & ~(own | (own - 1)));
  return ToHost(velocity.to(scores_));
}

at::Tensor Teacher::Anchor(const at::Tensor& noise, const std::vector<Digest>& prompts) {
  const std::int64_t batch = noise.size(0);
  for (std::size_t step = 0; step + 1 < anchor_sigmas_.size(); ++step)
    work_.forward += guidance_.At(anchor_sigmas_[step]) == 1.0 ? batch : 2 * batch;
  return ToHost(
      EulerSample(Routed(*this), noise.to(device_), anchor_sigmas_, ConditionOn(prompts), Negative(batch), guidance_));
}

// Guidance takes both halves in one pass.
void Teacher::SkipScore(std::int64_t asked) const {
  for (std::size_t expert = 0; expert < experts_.size(); ++expert) {
    if ((asked >> expert & 1) != 0) experts_[expert]->SkipForward();
  }
}

void Teacher::SkipAnchor() const {
  for (std::size_t step = 0; step + 1 < anchor_sigmas_.size(); ++step)
    experts_[ExpertAt(min_sigmas_, anchor_sigmas_[step])]->SkipForward();
}

Conditioning Teacher::ConditionOn(const std::vector<Digest>& prompts) const {
  return bank_.ConditionsOf(prompts, config_.text_len).To(device_);
}

Conditioning Teacher::Negative(std::int64_t batch) const {
  return Conditioning{bank_.GatherNegative(batch, config_.text_len)}.To(device_);
}

}  // namespace sgmd
