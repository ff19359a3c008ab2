// The text conditions of a sampling run, from wherever they are given, with the first frames of a bank.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "nodes/sampler/model_parts.h"
#include "nodes/sampler/options.h"
#include "pipeline/flow/velocity_model.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

struct TextConditions {
  Conditioning condition;  // float32 CPU; text [B, text_len, text_dim]: rows of the prompt, then zeros
  at::Tensor negative;     // text likewise or [1, ...]; undefined where `wants_negative` was false
};

/// Takes the first that there is of: options.embeddings; options.prompt_bank; the text encoder (options' or the
/// pipeline's), which is loaded, used and freed here; prompt_bank.safetensors in the model's folder. Throws Error when
/// prompts are missing, unknown to the bank, or do not fit the model; and on a bank whose first frames are none for
/// latents of `shape` [C, F, H, W], where the model takes one and options.images has none. A text of a bank stands for
/// each of its first frames.
TextConditions LoadText(const SampleOptions& options, const ModelParts& parts, const WanConfig& config,
                        const std::vector<std::int64_t>& shape, bool wants_negative);

}  // namespace sgmd
