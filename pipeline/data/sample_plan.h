// A sample is a ticket: everything random about it is a pure function of (run seed, rollbacks so far, step, index), so
// results do not depend on timing, on the number of teachers, or on who crashed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "common/config/experiment.h"
#include "common/digest/digest.h"
#include "pipeline/data/prompt_bank.h"

namespace sgmd {

/// One micro-batch of B samples. Tensors are float32 on the CPU.
///
/// Prompts, by [data] prompt_order: `random`: each uniform over the bank, by itself. `epochs`: the samples of a run, in
/// order of rollout, index and place in the micro-batch, take the prompts of one permutation of the bank after another;
/// permutation n is a function of (run seed, n) and survives a rollback. The rollouts of the inner loop have a sequence
/// of their own.
///
/// The exit step e is in [0, student steps), as often as exit_weights say, with the diversity loss never 0. By
/// [schedule] exit: `micro_batch`: one for the micro-batch. `step`: one for all micro-batches of a step, and of an
/// inner update one for all its fresh rollouts, as the public trainer draws it for all its ranks (wan_facts §5
/// "Rollout").
///
/// Of models of two experts (HasTwoExperts) all exit steps of an iteration are on one side of [model] boundary,
/// likewise all noise levels of its scores, and of each inner update: so it trains one expert of each role, and all
/// ranks of a group run the same one. Each side is drawn as often as it has of the exit weights, and of the noise
/// levels; with [schedule] experts it is always the same one.
struct SamplePlan {
  std::vector<Digest> prompts;  // [B]
  at::Tensor noise;             // [B, C, F, H, W], the start of the rollout at sigma = 1
  std::int64_t exit_step = 0;   // e
  at::Tensor score_sigma;       // [B], S_shift(t / 1000), t uniform integer in [0, 1000), clamped
  at::Tensor score_noise;       // [B, C, F, H, W]
  // With [schedule] rollout = "renoise" the new noise of the steps before the exit: entry i takes the clean estimate of
  // student step i to step i + 1, [B, C, F, H, W]; e of them. Else none.
  std::vector<at::Tensor> step_noise = {};
};

/// The sample that the generator is trained on in `step`: the one of RolloutStepOf it.
SamplePlan PlanSample(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index);

/// A rollout drawn only for inner update `update` (source = fresh or fresh_after). Its score fields are not used: the
/// inner loss has PlanInner's.
SamplePlan PlanFreshSample(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index,
                           std::int64_t update);

/// The micro-batches of `step` in the order in which the generator rolls them out and adds up their gradients: by exit
/// step, then by index. The ranks of a group take as many at once as they are, and so have rollouts of about one
/// length.
std::vector<std::int32_t> SamplesByExit(const Experiment& experiment, std::int64_t step);
/// The same of PlanFreshSample.
std::vector<std::int32_t> FreshSamplesByExit(const Experiment& experiment, std::int64_t step, std::int64_t update);

/// One micro-batch of the noise bank, which the diversity loss draws its anchors from. The bank is a finite list of
/// [diversity] noise_bank entries; entry i is a noise and a prompt that are functions of (run seed, i) alone, and its
/// micro-batch b holds the entries b B .. b B + B - 1. Whole micro-batches are what repeats, not single entries: an
/// anchor is bitwise the same only when the teacher computes it in the same batch, so only a whole micro-batch can be
/// taken from the cache. With noise_bank = 0 there is no bank, and an anchor has noise and prompts of the sample of the
/// same step and index, as in the public trainer: each is computed anew.
struct AnchorPlan {
  std::vector<Digest> prompts;  // [B]
  at::Tensor noise;             // [B, C, F, H, W], at sigma = 1
};

/// The anchors of micro-batch `index` of `step`: one for every micro-batch of samples, so that the diversity loss is a
/// mean over as many samples as the objective's. The bank is gone through in order, b = (step * micro_batches + index)
/// mod (noise_bank / B), which computes every anchor once in the first noise_bank / (B * micro_batches) steps and never
/// again. A rollback changes nothing in the bank.
AnchorPlan PlanAnchor(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index);

/// New s', e' for inner update `update` on the sample (step, index).
struct InnerPlan {
  at::Tensor sigma;  // [B], distributed as SamplePlan::score_sigma
  at::Tensor noise;  // [B, C, F, H, W]
};
InnerPlan PlanInner(const Experiment& experiment, std::int64_t step, std::int64_t index, std::int64_t update);

/// Which recorded micro-batch inner update `update` of `step` trains on in place `index` (source = replay): a step in
/// [max(0, newest - max_age), newest], uniform, and a micro-batch of it, uniform. `newest`: with a locked pace `step`
/// itself.
struct ReplayDraw {
  std::int64_t step = 0, index = 0;
};
ReplayDraw PlanReplay(const Experiment& experiment, std::int64_t step, std::int64_t index, std::int64_t update,
                      std::int64_t newest);

}  // namespace sgmd
