// What a model folder holds: one transformer, or a Diffusers pipeline with all its parts.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "common/storage/model_folder.h"

namespace sgmd {

/// Paths are empty where the folder does not have the part.
struct ModelParts {
  std::vector<Expert> experts;  // FindExperts
  std::filesystem::path vae, text_encoder, tokenizer, image_encoder;
  std::optional<double> shift;  // flow_shift of scheduler/scheduler_config.json

  /// `path`: a model as FindExperts knows it, also the root of a pipeline (transformer/ [transformer_2/] vae/
  /// text_encoder/ tokenizer/ [image_encoder/] scheduler/). `boundary`: of two experts in place of what the folder
  /// says. Throws Error as FindExperts does, and on a boundary for one transformer.
  static ModelParts Inspect(const std::filesystem::path& path, std::optional<double> boundary = {});
};

}  // namespace sgmd
