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

  // First frames, for a model for image-to-video: one for all prompts, or one for each; those of the bank when empty.
  std::vector<std::filesystem::path> images;
  std::filesystem::path image_encoder;  // of Wan2.1; default: the pipeline's

  // How.
  std::string solver = "unipc";    // or "euler"
  std::string grid = "diffusers";  // of UniPC: or "wan"
  std::int64_t steps = 50;
  std::optional<double> shift;              // default: the pipeline's flow_shift, else 5
  double guidance = 5;                      // w in u + w (c - u); 1 runs the conditional pass only
  std::optional<double> guidance_low;       // for the low-noise expert of two; default: guidance
  std::optional<double> boundary;           // noise level; of two experts, default: as the model's folder says
  std::vector<std::int64_t> student_steps;  // not empty: the few-step student's rollout without guidance
  std::string rollout = "euler";            // of a student: or "renoise", as it was trained

  VideoSize size;
  std::vector<std::int64_t> latent;  // channels, frames, height, width, instead of size
  std::uint64_t seed = 1;
  std::filesystem::path noise;

  std::vector<std::filesystem::path> out;  // .safetensors, .mp4, .gif, .png
  std::filesystem::path trajectory, vae;
  std::int64_t vae_tile = 0;  // pixels, see VaeTiling::WithQuarterShared; 0: whole frames
  std::optional<double> frame_rate;
  bool side_by_side = false;
  std::string device = "cpu";
  std::string dtype;  // of the transformer: "float32" or "bfloat16"; empty: float32 on the CPU, bfloat16 on a GPU
};

}  // namespace sgmd
