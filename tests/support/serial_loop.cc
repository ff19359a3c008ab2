#include "tests/support/serial_loop.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <chrono>

#include "pipeline/flow/flow_matching.h"
#include "pipeline/training/roles.h"

namespace sgmd {
namespace {

void RunInnerLoop(const Experiment& e, std::int64_t step, Generator& generator, FakeScore& fake) {
  for (std::int64_t update = 0; update < e.inner.updates; ++update) {
    for (std::int64_t m = 0; m < e.data.micro_batches; ++m) {
      if (HasRollouts(e.inner.source)) {
        const SamplePlan fresh = PlanFreshSample(e, generator.bank(), step, m, update);
        fake.samples().AddFresh(step, update, m, {generator.RollOut(fresh).x_g, fresh.prompts});
      }
      fake.Accumulate(step, update, m);
    }
    fake.Update();
  }
  fake.samples().Finish(step);
}

}  // namespace

SerialReport RunSerially(const Experiment& e, const std::filesystem::path& out, int threads) {
  at::set_num_threads(threads);
  Teacher teacher(e, at::kCPU);
  Generator generator(e, at::kCPU);
  FakeScore fake(e, at::kCPU);
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t step = 0; step < e.steps; ++step) {
    std::vector<SamplePlan> plans;
    std::vector<Generator::Rollout> rollouts;
    std::vector<at::Tensor> gradients;
    for (std::int64_t m = 0; m < e.data.micro_batches; ++m) {
      const SamplePlan& plan = plans.emplace_back(PlanSample(e, generator.bank(), step, m));
      const Generator::Rollout& rollout = rollouts.emplace_back(generator.RollOut(plan));
      const at::Tensor x_s = AddNoise(rollout.x_g, plan.score_noise, plan.score_sigma);
      const at::Tensor velocity = teacher.Score(x_s, plan.score_sigma, plan.prompts);
      gradients.push_back(fake.Gradient(rollout.x_g, x_s, plan.score_sigma, velocity, plan.prompts).gradient);
    }
    for (std::int64_t m = 0; m < e.data.micro_batches; ++m)
      fake.samples().AddScored(step, m, {rollouts[m].x_g, plans[m].prompts});
    if (e.inner.source != InnerSource::kFreshAfter) RunInnerLoop(e, step, generator, fake);
    for (std::int64_t m = 0; e.diversity.weight > 0 && m < e.data.micro_batches; ++m) {
      const AnchorPlan plan = PlanAnchor(e, generator.bank(), step, m);
      generator.AccumulateDiversity(plan, teacher.Anchor(plan.noise, plan.prompts));
    }
    for (std::int64_t m = 0; m < e.data.micro_batches; ++m)
      generator.Accumulate(plans[m], rollouts[m].x_exit, gradients[m]);
    generator.Update();
    if (e.inner.source == InnerSource::kFreshAfter) RunInnerLoop(e, step, generator, fake);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::filesystem::create_directories(out);
  generator.SaveState(out);
  fake.SaveState(out);
  const double work =
      teacher.work().ForwardEquivalents() + generator.work().ForwardEquivalents() + fake.work().ForwardEquivalents();
  return {seconds / static_cast<double>(e.steps),
          work / static_cast<double>(e.steps * e.data.micro_batches * e.data.micro_batch)};
}

}  // namespace sgmd
