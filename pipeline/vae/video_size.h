// Between the size of a video in pixels and the size of its latents.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "pipeline/models/wan_config.h"

namespace sgmd {

/// Frames, height, width in pixels; what is not set is the family's default: 81 x 480 x 832; 121 x 704 x 1280 for
/// TI2V-5B (48 channels).
struct VideoSize {
  std::optional<std::int64_t> frames, height, width;
};

/// Pixels per latent cell, by the channels of the latents (wan_facts §3): 16 are the 2.1 VAE's (4 x 8 x 8), 48 the 2.2
/// VAE's (4 x 16 x 16). Others have no VAE here: their latents are the pixels (1 x 1 x 1), as those of the embedded
/// model.
std::array<std::int64_t, 3> PixelsPerLatent(std::int64_t channels);

/// Frames per second that the family is trained at: 16; 24 with 48 channels; 8 without a VAE.
double FrameRate(std::int64_t channels);

/// Channels, frames, height, width of the latents: (F - 1) / 4 + 1 frames, and height and width that divide into
/// patches. Throws Error naming the nearest good size.
std::array<std::int64_t, 4> LatentShape(const WanConfig& config, const VideoSize& size);

}  // namespace sgmd
