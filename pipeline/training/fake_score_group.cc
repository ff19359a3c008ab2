#include "pipeline/training/fake_score_group.h"

#include <ATen/ATen.h>

#include <utility>

#include "common/error/error.h"
#include "pipeline/data/prompt_bank.h"

namespace sgmd {
namespace {

template <typename Sample, typename Field>
std::vector<at::Tensor> Each(const std::vector<Sample>& round, Field field) {
  std::vector<at::Tensor> all;
  for (const Sample& sample : round) all.push_back(field(sample));
  return all;
}

}  // namespace

FakeScoreGroup::FakeScoreGroup(const Experiment& experiment, at::Device device, Recomputation recompute,
                               const RankGroup& group)
    : RoleGroup(group, experiment, device, recompute), experiment_(experiment) {}

std::vector<FakeScore::Pair> FakeScoreGroup::Gradients(std::int64_t step, const std::vector<Scored>& round) {
  const at::ScalarType scores = round.front().velocity.scalar_type();
  std::vector<std::int32_t> indices;
  for (const Scored& sample : round) indices.push_back(sample.index);
  Give(kGradients, {step, static_cast<std::int64_t>(scores)}, indices);
  return GradientsOwn(step, indices.front(), scores, round);
}

std::vector<FakeScore::Pair> FakeScoreGroup::GradientsOwn(std::int64_t step, std::int32_t index, at::ScalarType scores,
                                                          const std::vector<Scored>& round) {
  const std::vector<std::int64_t> shape = LatentShape(experiment_);
  const std::int64_t batch = shape.front();
  const auto own = [&](auto field, at::ScalarType dtype, at::IntArrayRef of) {
    return orders_.Scatter(Each(round, field), dtype, of);
  };
  const at::Tensor x_g = own([](const Scored& s) { return s.x_g; }, at::kFloat, shape);
  const at::Tensor x_s = own([](const Scored& s) { return s.x_s; }, at::kFloat, shape);
  const at::Tensor sigma = own([](const Scored& s) { return s.sigma; }, at::kFloat, {batch});
  const at::Tensor velocity = own([](const Scored& s) { return s.velocity; }, scores, shape);
  const std::vector<Digest> prompts = PromptsFromTensor(
      own([](const Scored& s) { return PromptsToTensor(s.prompts); }, at::kByte, {batch, sizeof(Digest)}));
  FakeScore::Pair pair;
  if (experiment_.inner.source == InnerSource::kPaired) {
    pair = role_.GradientAndAccumulate(step, index, x_g, x_s, sigma, velocity, prompts);
  } else {
    pair.generator = role_.Gradient(x_g, x_s, sigma, velocity, prompts);
  }
  std::vector<double> numbers{pair.inner_loss};
  for (const auto& [name, value] : pair.generator.terms) numbers.push_back(value);
  const std::vector<at::Tensor> gradients = orders_.Gather(pair.generator.gradient),
                                values = orders_.Gather(at::tensor(numbers, at::kDouble));
  std::vector<FakeScore::Pair> all;
  for (std::size_t rank = 0; rank < gradients.size(); ++rank) {
    const double* value = values[rank].const_data_ptr<double>();
    FakeScore::Pair& of_rank = all.emplace_back();
    of_rank.generator = {gradients[rank], pair.generator.terms};  // the same names
    of_rank.inner_loss = *value++;
    for (auto& [name, term] : of_rank.generator.terms) term = *value++;
  }
  return all;
}

std::vector<double> FakeScoreGroup::Accumulate(std::int64_t step, std::int64_t update,
                                               const std::vector<std::int32_t>& indices, std::int64_t newest) {
  Give(kAccumulate, {step, update}, indices);
  std::vector<InnerSample> round;
  for (const std::int32_t index : indices) round.push_back(role_.samples().For(step, update, index, newest));
  return AccumulateOwn(step, update, indices.front(), round);
}

std::vector<double> FakeScoreGroup::AccumulateOwn(std::int64_t step, std::int64_t update, std::int32_t index,
                                                  const std::vector<InnerSample>& round) {
  const std::vector<std::int64_t> shape = LatentShape(experiment_);
  const at::Tensor x_g = orders_.Scatter(Each(round, [](const InnerSample& s) { return s.x_g; }), at::kFloat, shape);
  const at::Tensor prompts =
      orders_.Scatter(Each(round, [](const InnerSample& s) { return PromptsToTensor(s.prompts); }), at::kByte,
                      {shape.front(), static_cast<std::int64_t>(sizeof(Digest))});
  const double loss = role_.Accumulate(step, update, index, InnerSample{x_g, PromptsFromTensor(prompts)});
  std::vector<double> losses;
  for (const at::Tensor& of_rank : orders_.Gather(at::full({1}, loss, at::kDouble)))
    losses.push_back(of_rank.item<double>());
  return losses;
}

void FakeScoreGroup::Align(const NamedTensors& student) {
  if (orders_.ranks() == 1) return role_.Align(student);
  Give(kAlign);
  AlignOwn(student);
}

// One tensor after the other: no rank but 0 has all of them at once. The places are the same ones on all ranks.
void FakeScoreGroup::AlignOwn(const NamedTensors& student) {
  const std::map<std::string, at::Tensor> thetas(student.begin(), student.end());
  for (const auto& [parameter, slices] : role_.model().Places()) {
    for (const Slice& slice : slices) {
      at::Tensor theta = at::empty(slice.shape);
      if (orders_.rank() == 0) theta = thetas.at(slice.name).to(at::kCPU, at::kFloat).contiguous();
      orders_.Broadcast(theta);
      role_.AlignOne(slice.name, theta);
    }
  }
}

void FakeScoreGroup::DoOfRole(const Order& order, std::int32_t index) {
  const std::int64_t step = order.numbers[0];
  switch (order.what) {
    case kGradients:
      GradientsOwn(step, index, static_cast<at::ScalarType>(order.numbers[1]), {});
      return;
    case kAccumulate:
      AccumulateOwn(step, /*update=*/order.numbers[1], index, {});
      return;
    case kAlign:
      return AlignOwn({});
  }
}

}  // namespace sgmd
