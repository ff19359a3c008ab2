// What the three roles have in common: how the model of a role is made, conditioned and counted.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/experiment.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/training/work.h"

namespace sgmd {

/// The frozen teacher, in the dtype that it computes in.
WanTransformer FrozenTeacher(const Experiment& experiment, at::Device device);

/// The model of a trained role, which starts from the teacher's weights: all of it trainable with float32 masters, or
/// with [lora] adapters over a frozen base. `role` is the purpose of the adapters' draws.
WanTransformer TrainableModel(const Experiment& experiment, at::Device device, bool checkpoint_blocks,
                              std::string_view role);

/// Throws Error unless `model` can read every prompt of the bank.
void RequireFits(const PromptBank& bank, const WanTransformer& model);

/// The prompts' embeddings, padded to the model's text length, on its device.
Conditioning ConditionOn(const std::vector<Digest>& prompts, const PromptBank& bank, const WanTransformer& model);

/// Adds a backward pass of `samples` samples to what is trained of `model`.
void CountTrainingBackward(const WanTransformer& model, std::int64_t samples, Work& work);

/// Writes `tensors` to the file `name` in `folder` and appends the name to `names`.
void SaveAs(const std::filesystem::path& folder, const std::string& name, const NamedTensors& tensors,
            std::vector<std::string>* names);

}  // namespace sgmd
