#include "pipeline/data/sample_plan.h"

#include <ATen/ATen.h>

#include <numeric>

#include "common/error/error.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"

namespace sgmd {
namespace {

// A step that is run again after a rollback is run with other draws: the same ones would lead to the same end.
std::uint64_t DrawSeed(const Experiment& experiment, std::int64_t step, std::int64_t index,
                       const std::string& purpose) {
  const std::string again = experiment.rollbacks > 0 ? StrCat(".rollback.", experiment.rollbacks) : "";
  return SeedFor(experiment.seed, step, index, purpose + again);
}

std::vector<std::int64_t> BatchShape(const Experiment& experiment) {
  std::vector<std::int64_t> shape{experiment.data.micro_batch};
  shape.insert(shape.end(), experiment.data.latent.begin(), experiment.data.latent.end());
  return shape;
}

at::Tensor ScoreSigma(const Experiment& experiment, std::uint64_t seed) {
  const at::Tensor t = Integers(0, 1000, experiment.data.micro_batch, seed).to(at::kFloat) / 1000.0;
  return Shift(t, experiment.schedule.score_shift)
      .clamp(experiment.schedule.score_sigma_min, experiment.schedule.score_sigma_max);
}

std::int64_t ExitStep(const Experiment& experiment, std::uint64_t seed) {
  const std::vector<std::int64_t> weights = ExitWeights(experiment);
  const std::int64_t all = std::accumulate(weights.begin(), weights.end(), std::int64_t{0});
  std::int64_t left = Integers(0, all, 1, seed).item<std::int64_t>(), exit = 0;
  while (left >= weights[exit]) left -= weights[exit++];
  return exit;
}

SamplePlan Plan(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index,
                const std::string& purpose) {
  const auto seed = [&](const char* draw) { return DrawSeed(experiment, step, index, purpose + "." + draw); };
  const auto prompt_count = static_cast<std::int64_t>(bank.prompts().size());
  const at::Tensor chosen = Integers(0, prompt_count, experiment.data.micro_batch, seed("prompt"));
  SamplePlan plan;
  for (std::int64_t i = 0; i < experiment.data.micro_batch; ++i) {
    plan.prompts.push_back(bank.prompts()[chosen[i].item<std::int64_t>()]);
  }
  plan.noise = Noise(BatchShape(experiment), seed("noise"));
  plan.exit_step = ExitStep(experiment, seed("exit_step"));
  plan.score_sigma = ScoreSigma(experiment, seed("score_sigma"));
  plan.score_noise = Noise(BatchShape(experiment), seed("score_noise"));
  return plan;
}

}  // namespace

SamplePlan PlanSample(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index) {
  return Plan(experiment, bank, step, index, "sample");
}

SamplePlan PlanFreshSample(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index,
                           std::int64_t update) {
  return Plan(experiment, bank, step, index, StrCat("fresh.", update));
}

AnchorPlan PlanAnchor(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index) {
  const std::int64_t batches = experiment.diversity.noise_bank / experiment.data.micro_batch;
  const std::int64_t first = (step * experiment.data.micro_batches + index) % batches * experiment.data.micro_batch;
  const auto prompt_count = static_cast<std::int64_t>(bank.prompts().size());
  AnchorPlan plan;
  std::vector<at::Tensor> noises;
  for (std::int64_t entry = first; entry < first + experiment.data.micro_batch; ++entry) {
    const std::uint64_t prompt_seed = SeedFor(experiment.seed, 0, entry, "diversity_prompt");
    plan.prompts.push_back(bank.prompts()[Integers(0, prompt_count, 1, prompt_seed).item<std::int64_t>()]);
    noises.push_back(Noise(experiment.data.latent, SeedFor(experiment.seed, 0, entry, "diversity_noise")));
  }
  plan.noise = at::stack(noises);
  return plan;
}

ReplayDraw PlanReplay(const Experiment& experiment, std::int64_t step, std::int64_t index, std::int64_t update) {
  const auto draw = [&](const char* what, std::int64_t low, std::int64_t high) {
    return Integers(low, high, 1, DrawSeed(experiment, step, index, StrCat("replay.", update, ".", what)))
        .item<std::int64_t>();
  };
  return {draw("step", std::max<std::int64_t>(0, step - experiment.inner.max_age), step + 1),
          draw("index", 0, experiment.data.micro_batches)};
}

InnerPlan PlanInner(const Experiment& experiment, std::int64_t step, std::int64_t index, std::int64_t update) {
  const auto seed = [&](const char* draw) {
    return DrawSeed(experiment, step, index, StrCat("inner.", update, ".", draw));
  };
  return {ScoreSigma(experiment, seed("sigma")), Noise(BatchShape(experiment), seed("noise"))};
}

}  // namespace sgmd
