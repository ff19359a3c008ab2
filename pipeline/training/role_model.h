// What the three roles have in common: how the model of a role is made, conditioned and counted.
#pragma once

#include <vector>

#include "common/config/experiment.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/models/bank_fit.h"
#include "pipeline/models/wan_transformer.h"
#include "pipeline/training/trained_model.h"
#include "pipeline/training/work.h"

namespace sgmd {

/// [precision] of a role's model. With bfloat16 what is frozen is also kept in it; what is trained keeps float32
/// masters.
WanPrecision PrecisionOf(const Experiment& experiment, bool frozen);

/// The prompts' embeddings, padded to the model's text length, and their first frames, on its device.
template <typename Model>
Conditioning ConditionOn(const std::vector<Digest>& prompts, const PromptBank& bank, const Model& model) {
  return bank.ConditionsOf(prompts, model.config().text_len).To(model.device());
}

/// Adds a backward pass of `samples` samples to what is trained of `model`.
void CountTrainingBackward(const TrainedModel& model, std::int64_t samples, Work& work);

}  // namespace sgmd
