// The files that a sampling run leaves.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <vector>

namespace sgmd {

/// Throws Error unless every path ends in .safetensors, .mp4, .gif or .png.
void CheckExtensions(const std::vector<std::filesystem::path>& paths);
/// True for what shows pixels.
bool IsPicture(const std::filesystem::path& path);

/// Writes `videos`, each uint8 [F, H, W, 3] and of one size, to `path`: .mp4 or .gif at `frame_rate`, or .png with up
/// to eight frames in a row. Several videos go into files numbered from 1 (name-1.mp4), or side by side (one below the
/// other in a .png) into one. Returns what was written.
std::vector<std::filesystem::path> WriteVideos(const std::filesystem::path& path, const std::vector<at::Tensor>& videos,
                                               double frame_rate, bool side_by_side);

}  // namespace sgmd
