// What sgmd-sample is told.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/vae/video_size.h"

namespace sgmd {

struct SampleOptions {
  std::filesystem::path model;  // see ModelParts::Inspect

  // What is shown. One of: embeddings; prompts with a text encoder; prompts of a bank.
  std::vector<std::string> prompts;  // a bank's own prompts when empty
  std::optional<std::string> negative_prompt;
  std::filesystem::path text_encoder, tokenizer, prompt_bank, embeddings;

  // How.
  std::string solver = "unipc";    // or "euler"
  std::string grid = "diffusers";  // of UniPC: or "wan"
  std::int64_t steps = 50;
  std::optional<double> shift;              // default: the pipeline's flow_shift, else 5
  double guidance = 5;                      // w in u + w (c - u); 1 runs the conditional pass only
  std::optional<double> guidance_low;       // for the low-noise expert of two; default: guidance
  std::vector<std::int64_t> student_steps;  // not empty: the few-step student's Euler rollout without guidance

  VideoSize size;
  std::vector<std::int64_t> latent;  // channels, frames, height, width, instead of size
  std::uint64_t seed = 1;
  std::filesystem::path noise;

  std::vector<std::filesystem::path> out;  // .safetensors, .mp4, .gif, .png
  std::filesystem::path trajectory, vae;
  std::optional<double> frame_rate;
  bool side_by_side = false;
  std::string device = "cpu";
  std::string dtype;  // of the transformer: "float32" or "bfloat16"; empty: float32 on the CPU, bfloat16 on a GPU
};

}  // namespace sgmd
