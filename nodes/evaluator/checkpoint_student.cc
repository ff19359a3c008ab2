#include "nodes/evaluator/checkpoint_student.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "common/storage/checkpoint_layout.h"
#include "common/storage/sharded_safetensors.h"
#include "pipeline/models/lora.h"

namespace sgmd {
namespace {

WanTransformer Untrained(const Experiment& e, at::Device device, WanPrecision precision) {
  WanTransformer start = WanTransformer::Load(ModelOf(e, Role::kGenerator), device, precision);
  return e.lora.rank > 0 ? start.WithAdapters(LoraOf(e), 0) : std::move(start);
}

}  // namespace

CheckpointStudent::CheckpointStudent(const Experiment& experiment, at::Device device, WanPrecision precision)
    : averaged_(experiment.ema.decay > 0), model_(Untrained(experiment, device, precision)) {}

bool CheckpointStudent::Load(const std::filesystem::path& checkpoint) {
  try {
    const ShardedSafetensors weights = ShardedSafetensors::OfRanks(
        StateFilesIn(checkpoint, Spell(Role::kGenerator), averaged_ ? kAverageState : kModelState));
    const c10::NoGradGuard no_grad;
    for (const auto& [name, parameter] : model_.trained()) at::Tensor(parameter).copy_(CopyToTensor(weights.At(name)));
    return true;
  } catch (const std::exception&) {
    if (std::filesystem::exists(checkpoint)) throw;
    return false;
  }
}

}  // namespace sgmd
