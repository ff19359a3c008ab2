// Videos and pictures for people, written through ffmpeg a few frames at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>

#include "pipeline/evaluation/ffmpeg.h"

namespace sgmd {

/// [B, 3, F, H, W] in [-1, 1] -> uint8 [B, F, factor H, factor W, 3], bicubic in space.
at::Tensor EnlargeToRgb(const at::Tensor& video, std::int64_t factor);

/// [1, 3, F, H, W] in [-1, 1], any device -> uint8 [F, H, W, 3] on the CPU.
at::Tensor ToRgbFrames(const at::Tensor& video);

/// Writes a video whose frames come bit by bit. ffmpeg writes `.tmp-<name>`, which Finish renames: a file under the
/// final name is whole. Without Finish nothing is left.
class VideoWriter {
 public:
  /// The extension is the format: .mp4 (H.264; width and height even), .gif (ffmpeg holds its frames until the end: the
  /// palette is that of all), .png (exactly one frame). `frames_per_second` > 0.
  VideoWriter(std::filesystem::path path, double frames_per_second);
  ~VideoWriter();
  VideoWriter(const VideoWriter&) = delete;
  VideoWriter& operator=(const VideoWriter&) = delete;

  /// uint8 [F, H, W, 3], F >= 1, every time with the same height and width. Throws Error, with ffmpeg's words, when
  /// ffmpeg is missing or fails.
  void Append(const at::Tensor& frames);
  /// Throws Error when nothing was appended, or as Append does.
  void Finish();
  std::int64_t frames() const { return frames_; }

 private:
  void Start(std::int64_t height, std::int64_t width);

  std::filesystem::path path_, temporary_;
  double frames_per_second_;
  std::int64_t height_ = 0, width_ = 0, frames_ = 0;
  std::unique_ptr<Ffmpeg> ffmpeg_;  // from the first frames on, which say the size
};

/// uint8 [F, H, W, 3] -> a file as VideoWriter writes it.
void WriteVideo(const std::filesystem::path& path, const at::Tensor& frames, double frames_per_second);

/// uint8 [H, W, 3] -> PNG, likewise.
void WritePng(const std::filesystem::path& path, const at::Tensor& image);

}  // namespace sgmd
