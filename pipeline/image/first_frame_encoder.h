// From a picture to what a model for image-to-video is told of it (wan_facts §1.3 "I2V in brief").
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "pipeline/image/clip_vision.h"
#include "pipeline/vae/wan_vae.h"

namespace sgmd {

/// A video in pixels: 1 + 4 k frames, and a height and a width that divide into the VAE's cells. 0 frames: as the model
/// of the VAE takes them, the picture alone with TI2V-5B's, else 81.
struct VideoExtent {
  std::int64_t frames = 0, height = 480, width = 832;
};

class FirstFrameEncoder {
 public:
  /// `vae` as for WanVae::Load, `clip` as for ClipVision::Load; empty: no CLIP tokens. Throws Error as they do, and
  /// where the extent is none of the VAE's.
  FirstFrameEncoder(const std::filesystem::path& vae, const std::filesystem::path& clip, const VideoExtent& extent,
                    at::Device device);

  struct Encoded {
    at::Tensor latents;  // float32 CPU [C, F, H, W]: normalised, of the picture and of grey frames behind it
    at::Tensor clip;     // float32 CPU [257, 1280]; undefined without an encoder of theirs
  };
  /// Of `picture`, uint8 RGB [H, W, 3] of any size: resized to the extent by Pillow's Lanczos filter, whatever that
  /// does to its proportions, as diffusers' WanImageToVideoPipeline does; CLIP is given the picture as it is.
  /// `progress` counts latent frames.
  Encoded Encode(const at::Tensor& picture, const VaeProgress& progress = {}) const;

  /// Says what decides the result beside the picture: digests of the weights, and the extent.
  std::string identity() const;

 private:
  WanVae vae_;
  std::optional<ClipVision> clip_;
  VideoExtent extent_;
};

}  // namespace sgmd
