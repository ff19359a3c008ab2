// What the generator does in a step: it rolls out, waits for gradients, and lands them in the student.
#include <algorithm>
#include <chrono>
#include <numeric>

#include "common/error/error.h"
#include "common/metrics/work_count.h"
#include "common/trace/trace.h"
#include "nodes/generator/generator_node.h"
#include "nodes/generator/timed.h"
#include "nodes/generator/weight_chunks.h"
#include "nodes/ring/frames.h"
#include "pipeline/flow/flow_matching.h"

namespace sgmd {
namespace {

constexpr std::chrono::milliseconds kForEver{-1};

void RequireFinite(const TensorFrame& rollout, const char* what, const message::Ticket& ticket) {
  if (AllFinite(rollout.view)) return;
  throw Diverged(StrCat("the student has diverged: its ", what, " of step ", ticket.step, ", micro-batch ",
                        ticket.index, " holds an infinite value or no number"));
}

std::vector<std::int32_t> Ascending(std::int64_t count) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// The micro-batches that the ranks of a group take at once, from place `from` on.
std::vector<std::int32_t> Round(const std::vector<std::int32_t>& order, std::size_t from, int ranks) {
  return {order.begin() + static_cast<std::ptrdiff_t>(from), order.begin() + static_cast<std::ptrdiff_t>(from) + ranks};
}

}  // namespace

void GeneratorNode::Begin(std::int64_t step) {
  const Timed timed(&rollout_seconds_, "roll out", {step});
  const bool due = step > 0 && step > checkpoints_->committed() && step % experiment().checkpoint.every == 0;
  if (due && monitor_.healthy()) OrderCheckpoint(step);
  anchors_.Ask(step);  // before its samples: the broker holds the fake score's checkpoint for what it has been asked
  if (RollsOut(experiment(), step)) RollOut(step);
  if (step + 1 < end()) anchors_.Ask(step + 1);
  if (experiment().inner.source == InnerSource::kFresh) SendFreshSamples(step);
}

void GeneratorNode::RollOut(std::int64_t step) {
  const std::vector<std::int32_t> order = SamplesByExit(experiment(), step);
  for (std::size_t from = 0; from < order.size(); from += generator_.round()) {
    std::vector<GeneratorGroup::Planned> round;
    for (const std::int32_t index : Round(order, from, generator_.round()))
      round.push_back({index, PlanSample(experiment(), generator_.bank(), step, index)});
    const auto rollouts = generator_.RollOut(step, round, KeepsGraphs(step, from));
    for (std::size_t i = 0; i < round.size(); ++i) SendOff(step, round[i], rollouts[i]);
    CountWork();
  }
}

void GeneratorNode::SendOff(std::int64_t step, const GeneratorGroup::Planned& planned,
                            const Generator::Rollout& rollout) {
  const auto& [index, plan] = planned;
  const TensorFrame x_g = ToFrame(rollout.x_g);
  RequireFinite(x_g, "rollout", {step, index});
  const TensorFrame x_s = ToFrame(AddNoise(rollout.x_g, plan.score_noise, plan.score_sigma));
  if (InnerLoopComesFirst())
    client_.Send(ToEnvelope(message::InnerSample{{step, index}, 0, x_g, PromptsToFrame(plan.prompts)}));
  client_.Send(ToEnvelope(
      message::Sample{{step, index}, landed_, x_g, x_s, ToFrame(plan.score_sigma), PromptsToFrame(plan.prompts)}));
  gradients_.Expect({step, index}, {plan, rollout.exit, landed_});
  for (std::int64_t use = 1; use < experiment().outer.reuse; ++use)
    gradients_.Expect({step + use, index}, {plan, {rollout.exit.x}, landed_});
}

// Of the round that begins at place `from` of the step's order. A graph holds as long as the weights are those of the
// rollout: for the step that lands next. The ranks of a group have them, so they must take the same round again: where
// less than a step lands, they may not.
bool GeneratorNode::KeepsGraphs(std::int64_t step, std::size_t from) const {
  const bool same_rounds =
      node_.group.ranks() == 1 || LandedMicroBatches(experiment()) == experiment().data.micro_batches;
  const auto kept = static_cast<std::size_t>(node_.plan.topology.generator.keep_exit_graphs);
  return step == landed_ && same_rounds && from + generator_.round() <= kept;
}

// Whether the fake score is to have the samples before they are scored.
bool GeneratorNode::InnerLoopComesFirst() const {
  const Experiment::Inner& inner = experiment().inner;
  return inner.pace == InnerPacing::kFree || (inner.order == InnerOrder::kBefore && !HasRollouts(inner.source));
}

// Before the step's update they are rolled out while its gradients are on their way; after it, the fake score waits for
// them with its inner loop, and so do the next step's gradients.
void GeneratorNode::SendFreshSamples(std::int64_t step) {
  for (std::int64_t update = 0; update < experiment().inner.updates; ++update) {
    const std::vector<std::int32_t> order = FreshSamplesByExit(experiment(), step, update);
    for (std::size_t from = 0; from < order.size(); from += generator_.round()) {
      const trace::Span span("roll out for the inner loop", {step, order[from]});
      std::vector<GeneratorGroup::Planned> round;
      for (const std::int32_t index : Round(order, from, generator_.round()))
        round.push_back({index, PlanFreshSample(experiment(), generator_.bank(), step, index, update)});
      const std::vector<at::Tensor> rollouts = generator_.RollOutFresh(step, update, round);
      for (std::size_t i = 0; i < round.size(); ++i) {
        const auto& [index, plan] = round[i];
        const TensorFrame x_g = ToFrame(rollouts[i]);
        RequireFinite(x_g, "rollout for the inner loop", {step, index});
        client_.Send(ToEnvelope(message::InnerSample{{step, index}, update, x_g, PromptsToFrame(plan.prompts)}));
      }
      CountWork();
    }
  }
}

void GeneratorNode::Land(std::int64_t step) {
  Terms terms{{"in_flight", static_cast<double>(gradients_.in_flight())}};
  if (experiment().diversity.weight > 0) AccumulateAnchors(step, terms);
  AccumulateGradients(step, terms);
  const AdamW::StepReport report = Update(step);
  ++landed_;
  if (experiment().objective.alignment > 0) SendWeights(step);
  if (experiment().inner.source == InnerSource::kFreshAfter) SendFreshSamples(step);
  ReportStep(step, report, std::move(terms));
}

AdamW::StepReport GeneratorNode::Update(std::int64_t step) {
  const trace::Span span("optimizer", {step});
  return generator_.Update();
}

void GeneratorNode::SendWeights(std::int64_t step) {
  const trace::Span span("send weights", {step});
  for (const message::StudentWeights& chunk : ChunksOf(step, generator_.Weights())) {
    client_.Send(ToEnvelope(chunk));
    CountWork();
  }
}

// While the gradients of the step are on their way. Always first and in order of index: the order of the sums decides
// their last bit.
void GeneratorNode::AccumulateAnchors(std::int64_t step, Terms& terms) {
  const double share = 1.0 / static_cast<double>(experiment().data.micro_batches);
  const std::vector<std::int32_t> order = Ascending(experiment().data.micro_batches);
  for (std::size_t from = 0; from < order.size(); from += generator_.round()) {
    const std::vector<std::int32_t> round = Round(order, from, generator_.round());
    WaitUntil("wait for an anchor", {step, round.back()}, [&] {
      return std::ranges::all_of(round, [&](std::int32_t index) { return anchors_.Has({step, index}); });
    });
    const Timed timed(&backward_seconds_, "diversity forward and backward", {step, round.front()});
    AnchorPlan own;
    std::vector<at::Tensor> x_a;
    for (const std::int32_t index : round) {
      const Anchors::Arrived anchor = anchors_.Take({step, index});
      if (x_a.empty()) own = anchor.plan;
      x_a.push_back(ToTensor(anchor.answer.x_a));
      terms["anchor_hit_rate"] += anchor.answer.cache_hit ? share : 0;
    }
    for (const double loss : generator_.AccumulateDiversity(step, round, own, x_a))
      terms["diversity_loss"] += share * loss;
    CountWork();
  }
}

// Which micro-batches train the student in `step`, in the order of their sums. Waits where that is not known.
std::vector<std::int32_t> GeneratorNode::Landing(std::int64_t step) {
  std::vector<std::int32_t> order = SamplesByExit(experiment(), step);
  const auto count = static_cast<std::size_t>(LandedMicroBatches(experiment()));
  if (count == order.size()) return order;
  WaitUntil("wait for gradients", {step}, [&] { return gradients_.Of(step).size() == count; });
  const std::vector<std::int32_t> here = gradients_.Of(step);
  std::erase_if(order, [&](std::int32_t index) { return !std::ranges::binary_search(here, index); });
  return order;
}

void GeneratorNode::AccumulateGradients(std::int64_t step, Terms& terms) {
  const std::vector<std::int32_t> order = Landing(step);
  for (std::size_t from = 0; from < order.size(); from += generator_.round()) {
    const std::vector<std::int32_t> round = Round(order, from, generator_.round());
    WaitUntil("wait for a gradient", {step, round.back()}, [&] {
      return std::ranges::all_of(round, [&](std::int32_t index) { return gradients_.Has({step, index}); });
    });
    const Timed timed(&backward_seconds_, "forward and backward", {step, round.front()});
    Accumulate(step, round, terms);
    CountWork();
  }
  gradients_.Forget(step);
}

void GeneratorNode::Accumulate(std::int64_t step, const std::vector<std::int32_t>& round, Terms& terms) {
  const double share = 1.0 / static_cast<double>(LandedMicroBatches(experiment()));
  std::vector<GeneratorGroup::Scored> scored;
  for (const std::int32_t index : round) {
    const auto [sample, answer] = gradients_.Take({step, index});
    scored.push_back({index, sample.plan, sample.exit, ToTensor(answer.gradient)});
    for (const auto& [name, value] : answer.terms) terms[name] += share * value;
    terms["cache_hit_rate"] += answer.cache_hit ? share : 0;
    terms["staleness"] += share * static_cast<double>(landed_ - sample.version);
  }
  generator_.Accumulate(step, scored);
}

template <typename Condition>
void GeneratorNode::WaitUntil(const char* what, trace::About about, Condition condition) {
  const Timed timed(&wait_seconds_, what, about);
  while (!condition()) {
    if (const auto message = client_.Receive(kForEver)) OnMessage(*message);
  }
}

void GeneratorNode::ReportStep(std::int64_t step, const AdamW::StepReport& report, Terms terms) {
  const trace::Span span("report", {step});
  terms["grad_norm/student"] = report.gradient_norm;
  terms["generator_learning_rate"] = report.learning_rate;
  terms["rollout_sec"] = rollout_seconds_;
  terms["wait_sec"] = wait_seconds_;
  terms["backward_sec"] = backward_seconds_;
  rollout_seconds_ = wait_seconds_ = backward_seconds_ = 0;
  terms.merge(monitor_.Observe(step, report, terms["generator_loss"]));
  for (const auto& [name, value] : terms) events_.Scalar(TagOf(name), step, value);
  terms["step"] = static_cast<double>(landed_);
  heartbeat_.Report(terms);
}

}  // namespace sgmd
