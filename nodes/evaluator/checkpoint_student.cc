#include "nodes/evaluator/checkpoint_student.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "common/storage/checkpoint_layout.h"
#include "common/storage/sharded_safetensors.h"
#include "pipeline/models/lora.h"

namespace sgmd {

CheckpointStudent::CheckpointStudent(const Experiment& experiment, at::Device device, WanPrecision precision)
    : averaged_(experiment.ema.decay > 0), model_(Untrained(experiment, device, precision)) {}

WanExperts CheckpointStudent::Untrained(const Experiment& e, at::Device device, WanPrecision precision) {
  std::vector<double> min_sigmas;
  std::vector<WanTransformer> models;
  for (const auto& [expert, held] : ExpertsOf(e, Role::kGenerator)) {
    const bool trained = held == Held::kTrained;
    WanTransformer start = WanTransformer::Load(expert.model, device, precision);
    min_sigmas.push_back(expert.min_sigma);
    models.push_back(trained && e.lora.rank > 0 ? start.WithAdapters(LoraOf(e), 0) : std::move(start));
    if (!trained) continue;
    for (const auto& [name, tensor] : models.back().trained()) trained_.emplace_back(PrefixOf(expert) + name, tensor);
  }
  return {std::move(min_sigmas), std::move(models)};
}

bool CheckpointStudent::Load(const std::filesystem::path& checkpoint) {
  try {
    const ShardedSafetensors weights = ShardedSafetensors::OfRanks(
        StateFilesIn(checkpoint, Spell(Role::kGenerator), averaged_ ? kAverageState : kModelState));
    const c10::NoGradGuard no_grad;
    for (const auto& [name, parameter] : trained_) at::Tensor(parameter).copy_(CopyToTensor(weights.At(name)));
    return true;
  } catch (const std::exception&) {
    if (std::filesystem::exists(checkpoint)) throw;
    return false;
  }
}

}  // namespace sgmd
