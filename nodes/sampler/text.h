// The text conditions of a sampling run, from wherever they are given.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "nodes/sampler/model_parts.h"
#include "nodes/sampler/options.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

struct TextConditions {
  at::Tensor context;   // [B, text_len, text_dim] float32 CPU: rows of the prompt, then zeros
  at::Tensor negative;  // the same or [1, ...]; undefined where `wants_negative` was false
};

/// Takes the first that there is of: options.embeddings; options.prompt_bank; the text encoder (options' or the
/// pipeline's), which is loaded, used and freed here; prompt_bank.safetensors in the model's folder. Throws Error when
/// prompts are missing, unknown to the bank, or do not fit the model.
TextConditions LoadText(const SampleOptions& options, const ModelParts& parts, const WanConfig& config,
                        bool wants_negative);

}  // namespace sgmd
