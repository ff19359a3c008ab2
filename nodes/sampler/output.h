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

/// The file of one of several videos: name-1.mp4 for name.mp4.
std::filesystem::path Numbered(const std::filesystem::path& path, std::int64_t number);

/// Writes `videos`, each uint8 [F, H, W, 3] and of one size, to `path`: .mp4 or .gif at `frame_rate`, or .png with up
/// to eight frames in a row. Several go side by side, or one below the other in a .png.
void WriteVideos(const std::filesystem::path& path, const std::vector<at::Tensor>& videos, double frame_rate);

}  // namespace sgmd
