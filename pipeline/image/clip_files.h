// Where a CLIP vision encoder lies on disk and what its tensors are called there.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/storage/sharded_safetensors.h"
#include "pipeline/image/clip_vision.h"

namespace sgmd {

struct ClipTensor {
  std::string name;  // as transformers' CLIPVisionModel names it, without "vision_model."
  std::vector<std::int64_t> shape;
};

/// Every tensor that Encode reads, in a fixed order: not those of the last layer and of the norm behind it.
std::vector<ClipTensor> ClipTensors(const ClipVisionConfig& config);

/// The tensor of this name, with "vision_model." before it or without; null when absent.
const TensorView* FindClipTensor(const ShardedSafetensors& file, const std::string& name);

/// Throws Error naming each missing, misshapen and not floating tensor.
void CheckClipTensors(const ClipVisionConfig& config, const ShardedSafetensors& file);

/// `path` itself, or its image_encoder/. Throws Error when there is no encoder.
std::filesystem::path FindClipFolder(const std::filesystem::path& path);

}  // namespace sgmd
