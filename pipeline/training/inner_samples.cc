#include "pipeline/training/inner_samples.h"

#include <ATen/ATen.h>

#include <cstdio>

#include "common/error/error.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/flow/sample_plan.h"

namespace sgmd {

void InnerSamples::AddScored(std::int64_t step, std::int64_t index, InnerSample sample) {
  scored_[{step, 0, index}] = std::move(sample);
}

void InnerSamples::AddFresh(std::int64_t step, std::int64_t update, std::int64_t index, InnerSample sample) {
  fresh_[{step, update, index}] = std::move(sample);
}

bool InnerSamples::Complete(std::int64_t step) const {
  for (std::int64_t index = 0; index < experiment_.data.micro_batches; ++index) {
    if (!scored_.contains({step, 0, index})) return false;
    const std::int64_t rollouts = HasRollouts(experiment_.inner.source) ? experiment_.inner.updates : 0;
    for (std::int64_t update = 0; update < rollouts; ++update) {
      if (!fresh_.contains({step, update, index})) return false;
    }
  }
  return true;
}

const InnerSample& InnerSamples::For(std::int64_t step, std::int64_t update, std::int64_t index) const {
  if (HasRollouts(experiment_.inner.source)) return fresh_.at({step, update, index});
  if (experiment_.inner.source == InnerSource::kShared) return scored_.at({step, 0, index});
  const ReplayDraw draw = PlanReplay(experiment_, step, index, update);
  return scored_.at({draw.step, 0, draw.index});
}

void InnerSamples::Finish(std::int64_t step) {
  const std::int64_t kept = experiment_.inner.source == InnerSource::kReplay ? experiment_.inner.max_age - 1 : -1;
  std::erase_if(scored_, [&](const auto& entry) { return std::get<0>(entry.first) < step - kept; });
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
