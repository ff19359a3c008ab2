#include "pipeline/training/step_cost.h"

#include <algorithm>

#include "pipeline/models/role_experts.h"
#include "pipeline/objectives/objective_cost.h"

namespace sgmd {
namespace {

// A forward pass with gradients of what is trained, and its backward pass.
double Training(bool adapters, double again) {
  Work work{.forward = 1};
  (adapters ? work.backward_input : work.backward_full) = 1;
  return work.ForwardEquivalents() + again;
}

double GradientThroughInput(Objective objective, double again) {
  if (!DifferentiatesFakeScore(objective)) return Work{.forward = 1}.ForwardEquivalents();
  return Work{.forward = 1, .backward_input = 1}.ForwardEquivalents() + again;
}

// Student steps before the exit step, a mean over samples.
double MeanExit(const Experiment& e) {
  const std::vector<std::int64_t> weights = ExitWeights(e);
  double sum = 0, steps = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    sum += static_cast<double>(weights[i]);
    steps += static_cast<double>(weights[i]) * static_cast<double>(i);
  }
  return steps / sum;
}

}  // namespace

StepCost StepCostOf(const Experiment& e, double generator_again, double fake_again, double graphs_kept) {
  const bool adapters = e.lora.rank > 0, diverse = e.diversity.weight > 0;
  const double samples = static_cast<double>(e.data.micro_batch * e.data.micro_batches);
  const double updates = static_cast<double>(MostInnerUpdates(e)),
               steps = static_cast<double>(std::max<std::int64_t>(e.steps, 1));
  StepCost cost;
  cost.rollout = MeanExit(e) + 1;
  cost.score = GuidanceOf(e).Guides() ? 2 : 1;
  cost.gradient = GradientThroughInput(e.objective.name, fake_again);
  cost.exit_step = Training(adapters, generator_again);
  cost.inner = Training(adapters, fake_again);
  if (e.inner.source == InnerSource::kPaired) cost.inner -= 1;
  if (HasRollouts(e.inner.source)) cost.fresh = cost.rollout;
  cost.uncached_anchors = 0;
  if (diverse) {
    cost.diversity = cost.exit_step;
    cost.anchor = cost.score * static_cast<double>(e.diversity.anchor_steps);
    const bool own_noise = e.diversity.noise_bank == 0;  // no anchor twice
    cost.uncached_anchors =
        own_noise ? samples : std::min(samples, static_cast<double>(e.diversity.noise_bank) / steps);
  }
  cost.rolled_out = 1.0 / static_cast<double>(e.outer.reuse);
  cost.exit_step -= graphs_kept * cost.rolled_out;
  const double landed = static_cast<double>(LandedMicroBatches(e)) / static_cast<double>(e.data.micro_batches);
  cost.generator =
      samples * (cost.rolled_out * cost.rollout + landed * cost.exit_step + cost.diversity + updates * cost.fresh);
  cost.fake_score = samples * (landed * cost.gradient + updates * cost.inner);
  cost.teachers = samples * cost.rolled_out * cost.score + cost.uncached_anchors * cost.anchor;
  return cost;
}

}  // namespace sgmd
