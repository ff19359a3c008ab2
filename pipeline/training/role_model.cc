#include "pipeline/training/role_model.h"

#include <ATen/ATen.h>

#include "pipeline/flow/random.h"
#include "pipeline/models/lora.h"

namespace sgmd {
namespace {

// With bfloat16 what is frozen is also kept in it; what is trained keeps float32 masters.
WanPrecision PrecisionOf(const Experiment& experiment, bool frozen) {
  if (experiment.precision.compute == Compute::kFloat32) return at::kFloat;
  return {frozen ? at::kBFloat16 : at::kFloat, at::kBFloat16};
}

}  // namespace

WanTransformer FrozenTeacher(const Experiment& e, at::Device device) {
  return WanTransformer::Load(e.model.teacher, device, PrecisionOf(e, /*frozen=*/true));
}

WanTransformer TrainableModel(const Experiment& e, at::Device device, bool checkpoint_blocks, std::string_view role) {
  const bool adapted = e.lora.rank > 0;
  WanTransformer model = WanTransformer::Load(e.model.teacher, device, PrecisionOf(e, adapted));
  if (adapted) model = model.WithAdapters(LoraOf(e), SeedFor(e.seed, 0, 0, role));
  model.SetBlockCheckpointing(checkpoint_blocks);
  model.SetRequiresGrad(true);
  return model;
}

void RequireFits(const PromptBank& bank, const WanTransformer& model) {
  bank.RequireFits(model.config().text_dim, model.config().text_len);
}

Conditioning ConditionOn(const std::vector<Digest>& prompts, const PromptBank& bank, const WanTransformer& model) {
  return Conditioning{bank.Gather(prompts, model.config().text_len)}.To(model.device());
}

void CountTrainingBackward(const WanTransformer& model, std::int64_t samples, Work& work) {
  (model.adapters().empty() ? work.backward_full : work.backward_input) += samples;
  if (model.block_checkpointing()) work.recomputed += samples;
}

void SaveAs(const std::filesystem::path& folder, const std::string& name, const NamedTensors& tensors,
            std::vector<std::string>* names) {
  SaveTensors(folder / name, tensors);
  names->push_back(name);
}

}  // namespace sgmd
