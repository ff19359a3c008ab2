#include "pipeline/training/inner_samples.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>

#include "common/error/error.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/data/sample_plan.h"

namespace sgmd {

void InnerSamples::AddScored(std::int64_t step, std::int64_t index, InnerSample sample) {
  if (step >= oldest_) scored_.try_emplace({step, 0, index}, std::move(sample));
}

void InnerSamples::AddFresh(std::int64_t step, std::int64_t update, std::int64_t index, InnerSample sample) {
  fresh_[{step, update, index}] = std::move(sample);
}

bool InnerSamples::Complete(std::int64_t step) const {
  if (experiment_.inner.source == InnerSource::kPaired || experiment_.inner.updates == 0) return true;
  const bool fresh = HasRollouts(experiment_.inner.source);
  for (std::int64_t index = 0; index < experiment_.data.micro_batches; ++index) {
    if (!fresh && !scored_.contains({RolloutStepOf(experiment_, step), 0, index})) return false;
    for (std::int64_t update = 0; fresh && update < experiment_.inner.updates; ++update) {
      if (!fresh_.contains({step, update, index})) return false;
    }
  }
  return true;
}

bool InnerSamples::HasAny(std::int64_t step) const {
  const auto first = scored_.lower_bound({RolloutStepOf(experiment_, step), 0, 0});
  return first != scored_.end() && std::get<0>(first->first) <= step;
}

std::optional<std::int64_t> InnerSamples::Newest() const {
  std::map<std::int64_t, std::int64_t> here;
  for (const auto& [key, sample] : scored_) ++here[std::get<0>(key)];
  for (auto it = here.rbegin(); it != here.rend(); ++it) {
    if (it->second == experiment_.data.micro_batches) return it->first;
  }
  return {};
}

const InnerSample& InnerSamples::For(std::int64_t step, std::int64_t update, std::int64_t index,
                                     std::int64_t newest) const {
  if (HasRollouts(experiment_.inner.source)) return fresh_.at({step, update, index});
  if (experiment_.inner.source == InnerSource::kShared) return scored_.at({RolloutStepOf(experiment_, step), 0, index});
  const ReplayDraw draw = PlanReplay(experiment_, step, index, update, newest);
  return scored_.at({RolloutStepOf(experiment_, draw.step), 0, draw.index});
}

void InnerSamples::Finish(std::int64_t step) {
  // At a free pace the newest may be of the step before.
  const std::int64_t age = experiment_.inner.source != InnerSource::kReplay ? 0
                           : experiment_.inner.pace == InnerPacing::kFree   ? experiment_.inner.max_age + 1
                                                                            : experiment_.inner.max_age;
  oldest_ = RolloutStepOf(experiment_, std::max<std::int64_t>(step + 1 - age, 0));
  std::erase_if(scored_, [&](const auto& entry) { return std::get<0>(entry.first) < oldest_; });
  std::erase_if(fresh_, [&](const auto& entry) { return std::get<0>(entry.first) <= step; });
}

NamedTensors InnerSamples::State() const {
  NamedTensors state;
  if (experiment_.inner.source != InnerSource::kReplay) return state;
  for (const auto& [key, sample] : scored_) {
    const std::string name = StrCat(std::get<0>(key), ".", std::get<2>(key));
    state.emplace_back(name + ".x_g", sample.x_g);
    state.emplace_back(name + ".prompts", PromptsToTensor(sample.prompts));
  }
  return state;
}

void InnerSamples::LoadState(const SafetensorsFile& file) {
  for (const TensorView& view : file.tensors()) {
    long long step = 0, index = 0;
    char kind[8] = {};
    if (std::sscanf(view.name.c_str(), "%lld.%lld.%7s", &step, &index, kind) != 3) {
      throw Error("not a recorded sample: \"" + view.name + "\"", file.path().string());
    }
    InnerSample& sample = scored_[{step, 0, index}];
    if (kind == std::string("x_g")) {
      sample.x_g = CopyToTensor(view);
    } else {
      sample.prompts = PromptsFromTensor(CopyToTensor(view));
    }
  }
}

}  // namespace sgmd
