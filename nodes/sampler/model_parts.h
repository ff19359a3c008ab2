// What a model folder holds: one transformer, or a Diffusers pipeline with all its parts.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

namespace sgmd {

/// A transformer and the noise levels it is for (Wan2.2 A14B has two: wan_facts §1.1).
struct Expert {
  std::filesystem::path model;  // for WanTransformer::Load
  double min_timestep = 0;      // it takes timesteps >= this
};

/// Paths are empty where the folder does not have the part.
struct ModelParts {
  std::vector<Expert> experts;  // at least one, by falling min_timestep
  std::filesystem::path vae, text_encoder, tokenizer;
  std::optional<double> shift;  // flow_shift of scheduler/scheduler_config.json

  /// `path`: an original or Diffusers transformer folder or file, a pipeline root (transformer/ [transformer_2/] vae/
  /// text_encoder/ tokenizer/ scheduler/, boundary_ratio in model_index.json), or an original A14B folder
  /// (high_noise_model/, low_noise_model/; boundary 0.875, that of text-to-video). Throws Error when there is no
  /// transformer, and on two experts without a boundary.
  static ModelParts Inspect(const std::filesystem::path& path);
};

}  // namespace sgmd
