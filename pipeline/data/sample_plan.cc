#include "pipeline/data/sample_plan.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/error/error.h"
#include "common/storage/model_folder.h"
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

// Timesteps of scores before the shift: all, or those on one side of the boundary.
struct Timesteps {
  std::int64_t first = 0, end = 1000;
};

at::Tensor SigmaOf(const Experiment& experiment, const at::Tensor& timestep) {
  return Shift(timestep.to(at::kFloat) / 1000.0, experiment.schedule.score_shift)
      .clamp(experiment.schedule.score_sigma_min, experiment.schedule.score_sigma_max);
}

// The side of the boundary that an iteration is on, drawn as often as single draws of it would be: `high` of `all` are
// on the high side.
bool OnHighSide(const Experiment& experiment, std::uint64_t seed, std::int64_t high, std::int64_t all) {
  if (experiment.schedule.experts != TrainedExperts::kBoth)
    return experiment.schedule.experts == TrainedExperts::kHighNoise;
  return Integers(0, all, 1, seed).item<std::int64_t>() < high;
}

Timesteps ScoreTimesteps(const Experiment& experiment, std::uint64_t side_seed) {
  Timesteps all;
  if (!HasTwoExperts(experiment)) return all;
  const at::Tensor sigmas = SigmaOf(experiment, at::arange(all.first, all.end));
  std::int64_t boundary = all.first;
  while (boundary < all.end && !IsFrom(experiment.model.boundary, sigmas[boundary].item<double>())) ++boundary;
  const bool high = OnHighSide(experiment, side_seed, all.end - boundary, all.end);
  return high ? Timesteps{boundary, all.end} : Timesteps{all.first, boundary};
}

// `seed` is of the micro-batch, `side_seed` of its iteration.
at::Tensor ScoreSigma(const Experiment& experiment, std::uint64_t seed, std::uint64_t side_seed) {
  const Timesteps t = ScoreTimesteps(experiment, side_seed);
  return SigmaOf(experiment, Integers(t.first, t.end, experiment.data.micro_batch, seed));
}

// `count` prompts of the bank from place `first` of an endless row of permutations, each a function of (run seed, its
// number, purpose).
std::vector<Digest> InEpochs(const Experiment& experiment, const PromptBank& bank, std::int64_t first,
                             std::int64_t count, const std::string& purpose) {
  const auto size = static_cast<std::int64_t>(bank.prompts().size());
  std::vector<Digest> prompts;
  std::vector<std::int64_t> order;
  for (std::int64_t place = first; place < first + count; ++place) {
    if (order.empty() || place % size == 0) {
      order = Permutation(size, SeedFor(experiment.seed, place / size, 0, purpose + ".epoch"));
    }
    prompts.push_back(bank.prompts()[order[place % size]]);
  }
  return prompts;
}

std::vector<Digest> AtRandom(const PromptBank& bank, std::int64_t count, std::uint64_t seed) {
  std::vector<Digest> prompts;
  const at::Tensor chosen = Integers(0, static_cast<std::int64_t>(bank.prompts().size()), count, seed);
  for (std::int64_t i = 0; i < count; ++i) prompts.push_back(bank.prompts()[chosen[i].item<std::int64_t>()]);
  return prompts;
}

std::int64_t Sum(const std::vector<std::int64_t>& weights) {
  return std::accumulate(weights.begin(), weights.end(), std::int64_t{0});
}

// ExitWeights, without those on the other side of the boundary than the iteration is on.
std::vector<std::int64_t> ExitWeightsOf(const Experiment& experiment, std::uint64_t side_seed) {
  std::vector<std::int64_t> weights = ExitWeights(experiment);
  if (!HasTwoExperts(experiment)) return weights;
  std::vector<std::int64_t> high = weights, low = weights;
  for (std::size_t i = 0; i < weights.size(); ++i)
    (IsFrom(experiment.model.boundary, StudentSigma(experiment.schedule, i)) ? low : high)[i] = 0;
  return OnHighSide(experiment, side_seed, Sum(high), Sum(weights)) ? high : low;
}

std::int64_t ExitStep(const std::vector<std::int64_t>& weights, std::uint64_t seed) {
  std::int64_t left = Integers(0, Sum(weights), 1, seed).item<std::int64_t>(), exit = 0;
  while (left >= weights[exit]) left -= weights[exit++];
  return exit;
}

// Which of a sequence of micro-batches is drawn.
struct Draw {
  std::string purpose;       // of all draws but the order of prompts
  std::string epochs;        // of the order of prompts
  std::int64_t micro_batch;  // counted from the start of the run: its prompts in epochs
};

std::int64_t ExitStepOf(const Experiment& experiment, std::int64_t step, std::int64_t index,
                        const std::string& purpose) {
  const std::int64_t of = experiment.schedule.exit == ExitDraw::kStep ? 0 : index;
  const std::uint64_t side_seed = DrawSeed(experiment, step, 0, purpose + ".exit_side");
  return ExitStep(ExitWeightsOf(experiment, side_seed), DrawSeed(experiment, step, of, purpose + ".exit_step"));
}

std::vector<std::int32_t> ByExit(const Experiment& experiment, std::int64_t step, const std::string& purpose) {
  std::vector<std::pair<std::int64_t, std::int32_t>> exits;
  for (std::int32_t index = 0; index < experiment.data.micro_batches; ++index)
    exits.emplace_back(ExitStepOf(experiment, step, index, purpose), index);
  std::ranges::sort(exits);
  std::vector<std::int32_t> order;
  for (const auto& [exit, index] : exits) order.push_back(index);
  return order;
}

constexpr char kSample[] = "sample";
std::string FreshPurpose(std::int64_t update) { return StrCat("fresh.", update); }

SamplePlan Plan(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index,
                const Draw& draw) {
  const auto seed = [&](const std::string& what, std::int64_t of) {
    return DrawSeed(experiment, step, of, draw.purpose + "." + what);
  };
  const std::int64_t size = experiment.data.micro_batch;
  SamplePlan plan;
  plan.prompts = experiment.data.prompt_order == PromptOrder::kEpochs
                     ? InEpochs(experiment, bank, draw.micro_batch * size, size, draw.epochs)
                     : AtRandom(bank, size, seed("prompt", index));
  plan.noise = Noise(LatentShape(experiment), seed("noise", index));
  plan.exit_step = ExitStepOf(experiment, step, index, draw.purpose);
  plan.score_sigma = ScoreSigma(experiment, seed("score_sigma", index), seed("score_side", 0));
  plan.score_noise = Noise(LatentShape(experiment), seed("score_noise", index));
  const bool renoise = experiment.schedule.rollout == RolloutForm::kRenoise;
  for (std::int64_t step_to = 1; renoise && step_to <= plan.exit_step; ++step_to)
    plan.step_noise.push_back(Noise(LatentShape(experiment), seed(StrCat("step_noise.", step_to), index)));
  return plan;
}

}  // namespace

SamplePlan PlanSample(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index) {
  const std::int64_t rollouts = step / experiment.outer.reuse;  // before it
  return Plan(experiment, bank, RolloutStepOf(experiment, step), index,
              {kSample, "sample", rollouts * experiment.data.micro_batches + index});
}

SamplePlan PlanFreshSample(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index,
                           std::int64_t update) {
  const std::int64_t loop = step * experiment.inner.updates + update;
  return Plan(experiment, bank, step, index,
              {FreshPurpose(update), "fresh", loop * experiment.data.micro_batches + index});
}

std::vector<std::int32_t> SamplesByExit(const Experiment& experiment, std::int64_t step) {
  return ByExit(experiment, RolloutStepOf(experiment, step), kSample);
}

std::vector<std::int32_t> FreshSamplesByExit(const Experiment& experiment, std::int64_t step, std::int64_t update) {
  return ByExit(experiment, step, FreshPurpose(update));
}

AnchorPlan PlanAnchor(const Experiment& experiment, const PromptBank& bank, std::int64_t step, std::int64_t index) {
  if (experiment.diversity.noise_bank == 0) {
    SamplePlan sample = PlanSample(experiment, bank, step, index);
    return {std::move(sample.prompts), std::move(sample.noise)};
  }
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

ReplayDraw PlanReplay(const Experiment& experiment, std::int64_t step, std::int64_t index, std::int64_t update,
                      std::int64_t newest) {
  const auto draw = [&](const char* what, std::int64_t low, std::int64_t high) {
    return Integers(low, high, 1, DrawSeed(experiment, step, index, StrCat("replay.", update, ".", what)))
        .item<std::int64_t>();
  };
  return {draw("step", std::max<std::int64_t>(0, newest - experiment.inner.max_age), newest + 1),
          draw("index", 0, experiment.data.micro_batches)};
}

InnerPlan PlanInner(const Experiment& experiment, std::int64_t step, std::int64_t index, std::int64_t update) {
  const auto seed = [&](const char* draw, std::int64_t of) {
    return DrawSeed(experiment, step, of, StrCat("inner.", update, ".", draw));
  };
  return {ScoreSigma(experiment, seed("sigma", index), seed("score_side", 0)),
          Noise(LatentShape(experiment), seed("noise", index))};
}

}  // namespace sgmd
