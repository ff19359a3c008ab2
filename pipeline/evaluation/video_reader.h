// Frames of a video file, or of a folder of pictures, read through ffmpeg a few at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <vector>

#include "pipeline/evaluation/ffmpeg.h"

namespace sgmd {

struct VideoReaderOptions {
  std::int64_t width = 0,
               height = 0;       // 0: as it is; else scaled to cover this size, and what sticks out cropped evenly
  double frames_per_second = 0;  // 0: every frame as it is; else frames are dropped or repeated to this rate
};

class VideoReader {
 public:
  /// `path`: what ffmpeg can read, or a folder whose *.png are the frames in the order of their names.
  /// Throws Error when it does not exist, has no picture, or ffmpeg is missing.
  explicit VideoReader(const std::filesystem::path& path, const VideoReaderOptions& options = {});

  /// The next `count` frames, uint8 [F, H, W, 3]; fewer at the end of the video, and then none (F = 0).
  /// Throws Error with ffmpeg's words when the file is broken.
  at::Tensor Next(std::int64_t count);

 private:
  bool ReadFrame(std::vector<at::Tensor>* frames);
  bool ReadHeader(std::int64_t* width, std::int64_t* height);
  std::size_t Fill(std::span<std::byte> bytes);

  std::filesystem::path path_;
  Ffmpeg ffmpeg_;
  bool ended_ = false;
};

/// All frames, uint8 [F, H, W, 3].
at::Tensor ReadVideo(const std::filesystem::path& path, const VideoReaderOptions& options = {});

/// How many frames a reader with these options gives. Reads the file once, with tiny frames.
std::int64_t CountFrames(const std::filesystem::path& path, VideoReaderOptions options = {});

/// uint8 [F, H, W, 3] -> float32 [1, 3, F, H, W] in [-1, 1].
at::Tensor ToPixels(const at::Tensor& frames);

}  // namespace sgmd
