#include "pipeline/training/generator_group.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace sgmd {
namespace {

std::int64_t LongestRollout(const std::vector<GeneratorGroup::Planned>& round) {
  std::int64_t longest = 0;
  for (const auto& [index, plan] : round) longest = std::max(longest, plan.exit_step);
  return longest;
}

std::vector<std::int32_t> IndicesOf(const auto& round) {
  std::vector<std::int32_t> indices;
  for (const auto& sample : round) indices.push_back(sample.index);
  return indices;
}

}  // namespace

GeneratorGroup::GeneratorGroup(const Experiment& experiment, at::Device device, Recomputation recompute,
                               const RankGroup& group)
    : RoleGroup(group, experiment, device, recompute), experiment_(experiment) {}

std::vector<Generator::Rollout> GeneratorGroup::RollOut(std::int64_t step, const std::vector<Planned>& round,
                                                        bool keep_graphs) {
  const std::int64_t passes = LongestRollout(round);
  Give(kRollOut, {step, keep_graphs, passes}, IndicesOf(round));
  Generator::Exit exit;
  return RollOutOwn(round.front().plan, keep_graphs, passes, &exit);
}

std::vector<Generator::Rollout> GeneratorGroup::RollOutOwn(const SamplePlan& plan, bool keep_graph, std::int64_t passes,
                                                           Generator::Exit* exit) {
  Generator::Rollout own = role_.RollOut(plan, keep_graph, passes);
  *exit = own.exit;
  const std::vector<at::Tensor> x = orders_.Gather(own.exit.x), x_g = orders_.Gather(own.x_g);
  std::vector<Generator::Rollout> round;
  for (std::size_t rank = 0; rank < x.size(); ++rank) round.push_back({{x[rank]}, x_g[rank]});
  if (!round.empty()) round.front().exit.x_g = own.exit.x_g;
  return round;
}

std::vector<at::Tensor> GeneratorGroup::RollOutFresh(std::int64_t step, std::int64_t update,
                                                     const std::vector<Planned>& round) {
  const std::int64_t passes = LongestRollout(round);
  Give(kRollOutFresh, {step, update, passes}, IndicesOf(round));
  return orders_.Gather(role_.RollOut(round.front().plan, /*keep_graph=*/false, passes).x_g);
}

std::vector<double> GeneratorGroup::AccumulateDiversity(std::int64_t step, const std::vector<std::int32_t>& indices,
                                                        const AnchorPlan& own, const std::vector<at::Tensor>& x_a) {
  Give(kAccumulateDiversity, {step}, indices);
  return AccumulateDiversityOwn(own, x_a);
}

std::vector<double> GeneratorGroup::AccumulateDiversityOwn(const AnchorPlan& plan, const std::vector<at::Tensor>& x_a) {
  const at::Tensor own = orders_.Scatter(x_a, at::kFloat, LatentShape(experiment_));
  std::vector<double> losses;
  for (const at::Tensor& loss : orders_.Gather(at::full({1}, role_.AccumulateDiversity(plan, own), at::kDouble)))
    losses.push_back(loss.item<double>());
  return losses;
}

void GeneratorGroup::Accumulate(std::int64_t step, const std::vector<Scored>& round) {
  const bool kept = round.front().exit.x_g.defined();
  Give(kAccumulate, {step, kept}, IndicesOf(round));
  std::vector<at::Tensor> exits, gradients;
  for (const Scored& sample : round) {
    exits.push_back(sample.exit.x);
    gradients.push_back(sample.gradient);
  }
  AccumulateOwn(round.front().plan, round.front().exit, exits, gradients);
}

void GeneratorGroup::AccumulateOwn(const SamplePlan& plan, Generator::Exit own, const std::vector<at::Tensor>& exits,
                                   const std::vector<at::Tensor>& gradients) {
  const std::vector<std::int64_t> shape = LatentShape(experiment_);
  if (!own.x_g.defined()) own.x = orders_.Scatter(exits, at::kFloat, shape).to(role_.model().device());
  role_.Accumulate(plan, own, orders_.Scatter(gradients, at::kFloat, shape));
}

void GeneratorGroup::FollowAccumulate(std::int64_t step, std::int32_t index, bool kept) {
  Generator::Exit exit;
  if (kept) exit = kept_.extract({step, index}).mapped();
  AccumulateOwn(PlanSample(experiment_, bank(), step, index), std::move(exit), {}, {});
}

void GeneratorGroup::SaveStudent(const std::filesystem::path& folder) {
  Give(kSaveStudent, {}, {}, folder.string());
  role_.SaveStudent(folder);
}

NamedTensors GeneratorGroup::Weights() {
  Give(kWeights);
  return WeightsOwn();
}

NamedTensors GeneratorGroup::WeightsOwn() {
  NamedTensors weights;
  role_.model().ForEachWhole(role_.model().trained(), [&](const std::string& name, const at::Tensor& whole) {
    if (orders_.rank() == 0) weights.emplace_back(name, whole.to(at::kCPU));
  });
  return weights;
}

void GeneratorGroup::FollowRollOut(std::int64_t step, std::int32_t index, bool keep_graph, std::int64_t passes) {
  Generator::Exit exit;
  RollOutOwn(PlanSample(experiment_, bank(), step, index), keep_graph, passes, &exit);
  if (keep_graph) kept_[{step, index}] = exit;
}

void GeneratorGroup::DoOfRole(const Order& order, std::int32_t index) {
  const std::int64_t step = order.numbers[0], passes = order.numbers[2];
  switch (order.what) {
    case kRollOut:
      return FollowRollOut(step, index, /*keep_graph=*/order.numbers[1] != 0, passes);
    case kRollOutFresh: {
      const SamplePlan plan = PlanFreshSample(experiment_, bank(), step, index, /*update=*/order.numbers[1]);
      orders_.Gather(role_.RollOut(plan, /*keep_graph=*/false, passes).x_g);
      return;
    }
    case kAccumulateDiversity:
      AccumulateDiversityOwn(PlanAnchor(experiment_, bank(), step, index), {});
      return;
    case kAccumulate:
      return FollowAccumulate(step, index, /*kept=*/order.numbers[1] != 0);
    case kSaveStudent:
      return role_.SaveStudent(order.text);
    case kWeights:
      WeightsOwn();
      return;
  }
}

}  // namespace sgmd
