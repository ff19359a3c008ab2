// A sample is a ticket: everything random about it is a pure function of (run seed, rollbacks so far, step, index), so results do not
// depend on timing, on the number of teachers, or on who crashed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "common/config/experiment.h"
#include "common/digest/digest.h"
#include "pipeline/data/prompt_bank.h"

namespace sgmd {

/// One micro-batch of B samples. Tensors are float32 on the CPU.
struct SamplePlan {
  std::vector<Digest> prompts;  // [B]
  at::Tensor noise;             // [B, C, F, H, W], the start of the rollout at sigma = 1
  std::int64_t exit_step = 0;   // e in [0, student steps), one for the micro-batch (wan_facts §5 "Rollout")
  at::Tensor score_sigma;       // [B], S_shift(t / 1000), t uniform integer in [0, 1000), clamped
  at::Tensor score_noise;       // [B, C, F, H, W]
};

/// The sample that the generator is trained on.
SamplePlan PlanSample(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index);

/// A rollout drawn only for inner update `update` (source = fresh); its score fields serve the inner loss.
SamplePlan PlanFreshSample(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index,
                           std::int64_t update);

/// New s', e' for inner update `update` on the sample (step, index).
struct InnerPlan {
  at::Tensor sigma;  // [B], distributed as SamplePlan::score_sigma
  at::Tensor noise;  // [B, C, F, H, W]
};
InnerPlan PlanInner(const Experiment& experiment, std::int64_t step, std::int64_t index, std::int64_t update);

/// Which recorded micro-batch inner update `update` trains on in place `index` (source = replay): a step in
/// [max(0, step - max_age), step], uniform, and a micro-batch of it, uniform.
struct ReplayDraw {
  std::int64_t step = 0, index = 0;
};
ReplayDraw PlanReplay(const Experiment& experiment, std::int64_t step, std::int64_t index, std::int64_t update);

}  // namespace sgmd
