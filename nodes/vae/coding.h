// Video files to latents and back, a chunk at a time: neither the video nor its activations lie in memory whole. In
// tiles, which each need all frames, the video does, on the CPU.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace sgmd {

struct EncodeOptions {
  std::filesystem::path vae, video, out;  // out: safetensors with "latents" float32 [1, z, T, h, w], normalised
  std::vector<std::int64_t> size;         // width, height; empty: as the video is
  double frames_per_second = 0;           // 0: every frame
  std::int64_t frames = 0;  // at most so many; 0: all. The rest of a division by 4 (after the first) is dropped
  std::int64_t tile = 0;    // pixels, see VaeTiling::WithQuarterShared; 0: whole frames
  std::string device = "cpu";
};

struct DecodeOptions {
  std::filesystem::path vae, latents, out;  // several videos: <out>-0, <out>-1, ... before the extension
  double frames_per_second = 16;
  std::int64_t tile = 0;  // pixels, see VaeTiling::WithQuarterShared; 0: whole frames
  std::string device = "cpu";
};

/// Each prints what it wrote and throws Error on anything that does not fit.
void EncodeVideo(const EncodeOptions& options);
void DecodeVideo(const DecodeOptions& options);

}  // namespace sgmd
