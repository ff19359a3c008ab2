#include "pipeline/training/teacher.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "pipeline/device/host_copy.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/objectives/diversity.h"
#include "pipeline/training/role_model.h"

namespace sgmd {

Teacher::Teacher(const Experiment& e, at::Device device, const RankGroup& group)
    : bank_(PromptBank::Open(e.model.prompts)),
      group_(group.device),
      device_(device),
      guidance_(e.model.guidance),
      scores_(e.precision.scores == Compute::kBfloat16 ? at::kBFloat16 : at::kFloat),
      anchor_sigmas_(AnchorSigmas(e.diversity.anchor_steps, e.diversity.anchor_grid, e.schedule.student_shift)) {
  const WanPrecision precision = PrecisionOf(e, /*frozen=*/true);
  if (group.ranks() == 1) {
    whole_ = std::make_unique<WanTransformer>(WanTransformer::Load(e.model.teacher, device, precision));
    config_ = whole_->config();
  } else {
    const ShardedWanForm form{precision, {}, /*trained=*/false, /*sequence=*/nullptr};
    shard_ = std::make_unique<ShardedWan>(ShardedWan::Load(e.model.teacher, form, /*seed=*/0, *group_, device));
    config_ = shard_->config();
  }
  RequireFits(bank_, config_);
}

const VelocityModel& Teacher::model() const {
  if (shard_) return *shard_;
  return *whole_;
}

at::Tensor Teacher::Score(const at::Tensor& x_s, const at::Tensor& sigma, const std::vector<Digest>& prompts) {
  c10::NoGradGuard no_grad;
  const std::int64_t batch = x_s.size(0);
  work_.forward += guidance_ == 1.0 ? batch : 2 * batch;
  return ToHost(
      GuidedVelocity(model(), x_s.to(device_), sigma.to(device_), ConditionOn(prompts), Negative(batch), guidance_)
          .to(scores_));
}

at::Tensor Teacher::Anchor(const at::Tensor& noise, const std::vector<Digest>& prompts) {
  const std::int64_t batch = noise.size(0);
  const auto steps = static_cast<std::int64_t>(anchor_sigmas_.size()) - 1;
  work_.forward += (guidance_ == 1.0 ? batch : 2 * batch) * steps;
  return ToHost(
      EulerSample(model(), noise.to(device_), anchor_sigmas_, ConditionOn(prompts), Negative(batch), guidance_));
}

// Guidance takes both halves in one pass.
void Teacher::SkipScore() const {
  if (shard_) shard_->SkipForward();
}

void Teacher::SkipAnchor() const {
  for (std::size_t step = 1; step < anchor_sigmas_.size(); ++step) SkipScore();
}

Conditioning Teacher::ConditionOn(const std::vector<Digest>& prompts) const {
  return Conditioning{bank_.Gather(prompts, config_.text_len)}.To(device_);
}

Conditioning Teacher::Negative(std::int64_t batch) const {
  return ConditionOn(std::vector<Digest>(static_cast<std::size_t>(batch), bank_.negative()));
}

}  // namespace sgmd
