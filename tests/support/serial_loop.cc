#include "tests/support/serial_loop.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <chrono>
#include <map>
#include <vector>

#include "nodes/generator/admission.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/training/fake_score.h"
#include "pipeline/training/generator.h"
#include "pipeline/training/role_model.h"
#include "pipeline/training/teacher.h"

namespace sgmd {
namespace {

// A run as one loop on one thread: what the processes must add up to, bit for bit.
class SerialLoop {
 public:
  SerialLoop(const Experiment& experiment, const SerialOptions& options)
      : e(experiment),
        generator(e, at::kCPU, options.checkpoint_blocks),
        fake(e, at::kCPU, options.checkpoint_blocks),
        keep_exit_graph_(options.keep_exit_graph),
        teacher_(e, at::kCPU) {}

  void Run() {
    const Admission admission{e.outer.max_staleness, e.checkpoint.every, e.pauses};
    std::int64_t begun = 0;
    for (std::int64_t step = 0; step < e.steps; ++step) {
      while (begun < e.steps && admission.Admits(begun, step)) Begin(begun++);
      TrainFakeScore(step);
      TrainGenerator(step);
    }
  }

  double Work() const {
    return teacher_.work().ForwardEquivalents() + generator.work().ForwardEquivalents() +
           fake.work().ForwardEquivalents();
  }

  const Experiment e;
  Generator generator;
  FakeScore fake;

 private:
  struct Scored {
    SamplePlan plan;
    Generator::Rollout rollout;
    at::Tensor x_s, velocity;
  };
  bool FreshAfter() const { return e.inner.source == InnerSource::kFreshAfter; }

  void Begin(std::int64_t step) {
    for (const std::int32_t m : RollsOut(e, step) ? SamplesByExit(e, step) : std::vector<std::int32_t>{}) {
      Scored& s = scored_[{step, m}];
      s.plan = PlanSample(e, generator.bank(), step, m);
      s.rollout = RollOut(s.plan, keep_exit_graph_);
      s.x_s = AddNoise(s.rollout.x_g, s.plan.score_noise, s.plan.score_sigma);
      s.velocity = teacher_.Score(s.x_s, s.plan.score_sigma, s.plan.prompts);
      fake.samples().AddScored(step, m, {s.rollout.x_g, s.plan.prompts});
    }
    if (e.inner.source == InnerSource::kFresh) RollOutFresh(step);
  }

  // With new noise at each step by the formula itself: x <- (1 - s') (x - s v) + s' e, and x_g = x - s v at the exit.
  Generator::Rollout RollOut(const SamplePlan& plan, bool keep_graph = false) {
    if (e.schedule.rollout == RolloutForm::kEuler) return generator.RollOut(plan, keep_graph);
    const c10::NoGradGuard no_grad;
    const std::vector<double> sigmas = StudentSigmas(e.schedule.student_steps, e.schedule.student_shift);
    const auto clean = [&](const at::Tensor& x, double sigma) {
      const at::Tensor levels = at::full({x.size(0)}, sigma);
      return x - sigma * generator.model().Forward(x, levels,
                                                   ConditionOn(plan.prompts, generator.bank(), generator.model()));
    };
    at::Tensor x = plan.noise;
    for (std::int64_t i = 0; i < plan.exit_step; ++i)
      x = (1 - sigmas[i + 1]) * clean(x, sigmas[i]) + sigmas[i + 1] * plan.step_noise.at(i);
    return {{x}, clean(x, sigmas[plan.exit_step])};
  }

  void RollOutFresh(std::int64_t step) {
    for (std::int64_t update = 0; update < e.inner.updates; ++update) {
      for (std::int64_t m = 0; m < e.data.micro_batches; ++m) {
        const SamplePlan fresh = PlanFreshSample(e, generator.bank(), step, m, update);
        fake.samples().AddFresh(step, update, m, {RollOut(fresh).x_g, fresh.prompts});
      }
    }
  }

  void TrainFakeScore(std::int64_t step) {
    if (e.inner.order == InnerOrder::kBefore) RunInnerLoop(step);
    gradients_.clear();
    for (std::int64_t m = 0; m < e.data.micro_batches; ++m) {
      const Scored& s = scored_.at({RolloutStepOf(e, step), m});
      const auto& [plan, rollout, x_s, velocity] = s;
      gradients_.push_back(
          e.inner.source == InnerSource::kPaired
              ? fake.GradientAndAccumulate(step, m, rollout.x_g, x_s, plan.score_sigma, velocity, plan.prompts)
                    .generator
              : fake.Gradient(rollout.x_g, x_s, plan.score_sigma, velocity, plan.prompts));
    }
    if (e.inner.order == InnerOrder::kAfter && !FreshAfter()) RunInnerLoop(step);
  }

  void RunInnerLoop(std::int64_t step) {
    for (std::int64_t update = 0; update < e.inner.updates; ++update) {
      for (std::int64_t m = 0; e.inner.source != InnerSource::kPaired && m < e.data.micro_batches; ++m)
        fake.Accumulate(step, update, m);
      fake.Update();
    }
    fake.samples().Finish(step);
  }

  void TrainGenerator(std::int64_t step) {
    for (std::int64_t m = 0; e.diversity.weight > 0 && m < e.data.micro_batches; ++m) {
      const AnchorPlan plan = PlanAnchor(e, generator.bank(), step, m);
      generator.AccumulateDiversity(plan, teacher_.Anchor(plan.noise, plan.prompts));
    }
    for (const std::int32_t m : SamplesByExit(e, step)) {
      Scored& s = scored_.at({RolloutStepOf(e, step), m});
      generator.Accumulate(s.plan, s.rollout.exit, gradients_[m].gradient);
      s.rollout.exit.x_g = at::Tensor();  // a graph serves once
    }
    generator.Update();
    if (FreshAfter()) {
      RollOutFresh(step);
      RunInnerLoop(step);
    }
    if (e.objective.alignment > 0) fake.Align(generator.model().trained());  // alone, it has whole tensors
    std::erase_if(scored_, [&](const auto& entry) { return entry.first.first < RolloutStepOf(e, step + 1); });
  }

  bool keep_exit_graph_;
  Teacher teacher_;
  std::map<std::pair<std::int64_t, std::int64_t>, Scored> scored_;  // by step and micro-batch
  std::vector<GeneratorGradient> gradients_;                        // of the step, by micro-batch
};

}  // namespace

SerialReport RunSerially(const Experiment& e, const std::filesystem::path& out, const SerialOptions& options) {
  at::set_num_threads(options.threads);
  SerialLoop loop(e, options);
  const auto start = std::chrono::steady_clock::now();
  loop.Run();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::filesystem::create_directories(out);
  loop.generator.SaveState(out);
  loop.fake.SaveState(out);
  return {seconds / static_cast<double>(e.steps),
          loop.Work() / static_cast<double>(e.steps * e.data.micro_batches * e.data.micro_batch)};
}

}  // namespace sgmd
