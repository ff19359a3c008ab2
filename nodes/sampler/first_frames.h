// The first frames of a sampling run for image-to-video.
#pragma once

#include <filesystem>
#include <vector>

#include "nodes/sampler/model_parts.h"
#include "nodes/sampler/options.h"
#include "pipeline/flow/velocity_model.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

/// Throws Error where options.images are not what the model takes: pictures for text-to-video, or for latents without a
/// VAE; none that could be found for image-to-video. Loads nothing. `vae` and `image_encoder`: those of the run.
void CheckImages(const SampleOptions& options, const WanConfig& config, const std::filesystem::path& vae,
                 const std::filesystem::path& image_encoder);

/// Puts the conditions of options.images, one or as many as there are texts, into `condition`, float32 CPU, for latents
/// of `shape` [C, F, H, W]. VAE and CLIP encoder are loaded, used and freed here. Without images it does nothing.
/// Throws Error on another number, and where the model takes a first frame and there is none now.
void AddImages(const SampleOptions& options, const WanConfig& config, const std::filesystem::path& vae,
               const std::filesystem::path& image_encoder, const std::vector<std::int64_t>& shape,
               Conditioning& condition);

}  // namespace sgmd
