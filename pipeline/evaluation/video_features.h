// Feature networks that the Fréchet distance is measured on: ours, or any TorchScript file.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>

namespace sgmd {

/// float32 videos [B, 3, F, H, W] in about [-1, 1] -> features [B, D].
using VideoFeatures = std::function<at::Tensor(const at::Tensor& videos)>;

/// `path`: a .safetensors file of MotionFeatures, or a TorchScript module (.pt, .torchscript) whose forward maps videos
/// to features, such as the I3D of FVD. Videos go through in batches. Throws Error when the file is neither.
VideoFeatures LoadVideoFeatures(const std::filesystem::path& path);

}  // namespace sgmd
