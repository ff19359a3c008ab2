// Which prompt banks a model can be trained and sampled with.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/data/bank_index.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

/// What a model of `config` asks of the bank's first frames, for videos with latents of `latent` [C, F, H, W]: nothing
/// of a model for text-to-video; of TI2V-5B, which makes videos either way, latents of one frame where the bank has
/// any.
FirstFrames FirstFramesFor(const WanConfig& config, const std::vector<std::int64_t>& latent, const BankIndex& bank);

/// Throws Error unless a model of `config` can read every entry of the bank: its text, and the first frames that
/// FirstFramesFor says.
void RequireFits(const BankIndex& bank, const WanConfig& config, const std::vector<std::int64_t>& latent);

}  // namespace sgmd
