// Videos and pictures for people: latents of the embedded model enlarged, put side by side, written through ffmpeg.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace sgmd {

/// [B, 3, F, H, W] in [-1, 1] -> uint8 [B, F, factor H, factor W, 3], bicubic in space.
at::Tensor EnlargeToRgb(const at::Tensor& video, std::int64_t factor);

/// uint8 [F, H, W, 3] -> GIF or MP4 by the extension, `frames_per_second` > 0. Frames go through a pipe to `ffmpeg`.
/// Throws Error when ffmpeg is missing or fails.
void WriteVideo(const std::filesystem::path& path, const at::Tensor& frames, double frames_per_second);

/// uint8 [H, W, 3] -> PNG, likewise.
void WritePng(const std::filesystem::path& path, const at::Tensor& image);

}  // namespace sgmd
