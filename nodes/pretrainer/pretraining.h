// Pretrains the embedded teacher by flow matching on the procedural videos.
#pragma once

#include <cstdint>
#include <filesystem>

#include "pipeline/data/bouncing_balls.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

struct PretrainingOptions {
  std::filesystem::path out;        // model folder to write: config.json, weights, prompt_bank.safetensors
  std::int64_t width = 128;         // of the model
  std::int64_t steps = 10000;       // updates, >= 1
  std::int64_t batch = 64;          // videos per update, >= 1
  double learning_rate = 4e-3;      // peak, of AdamW; linear warm-up, cosine decay to 0; block matrices take Muon's own
  std::int64_t warmup_steps = 100;  // >= 0
  double ema_decay = 0.998;         // [0, 1); the average is what is saved
  double prompt_dropout = 0.1;      // share of samples trained on the negative prompt, [0, 1]
  std::uint64_t seed = 1;
  std::int64_t save_every = 200;  // updates between resumable states, >= 1
  bool force = false;             // replace a model, or drop unfinished work, of other settings
  BouncingBallsShape shape;
};

/// The embedded model: 4 layers, heads of 32, feed-forward of 4 widths, patch (1, 4, 4), 8 words of 32 numbers.
/// `width`: a multiple of 32.
WanConfig EmbeddedModelConfig(std::int64_t width = 128);

/// Trains and writes the folder; resumes from <out>/.pretraining by itself and removes it at the end. Every batch is a
/// function of (seed, update), so an interrupted run ends in the same weights. A model that was trained with the same
/// options is left as it is; throws Error when model or unfinished work are of others, unless `force`, and on a
/// non-finite loss.
void Pretrain(const PretrainingOptions& options);

}  // namespace sgmd
