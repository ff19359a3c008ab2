// All that objectives, samplers and the diversity loss know of a network: it predicts the flow-matching velocity of a
// noised latent video under a condition.
#pragma once

#include <ATen/core/Tensor.h>

namespace sgmd {

/// What a batch of B samples is conditioned on. Any floating dtypes; undefined is what there is no condition of.
struct Conditioning {
  at::Tensor text;        // embeddings [B, text_len, text_dim]
  at::Tensor image = {};  // for image-to-video: latents of the first frame and grey ones behind it [B, C, F, H, W];
                          // for TI2V-5B's image-to-video: of the first frame alone [B, C, 1, H, W]
  at::Tensor clip = {};   // for Wan2.1's image-to-video: CLIP tokens of the first frame [B, 257, 1280]

  Conditioning To(at::Device device) const;
  /// This text with the images of `other`: guidance takes away the text alone.
  Conditioning WithImageOf(const Conditioning& other) const { return {text, other.image, other.clip}; }
};

/// The conditions of `first`, then those of `second`, as one batch: for two passes of a network in one.
Conditioning Concatenate(const Conditioning& first, const Conditioning& second);

class VelocityModel {
 public:
  virtual ~VelocityModel() = default;

  /// Velocity e - x0 [B, C, F, H, W] of latents `x` [B, C, F, H, W] at `sigma` [B] in [0, 1]. Differentiable in x.
  virtual at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const = 0;

 protected:
  VelocityModel() = default;
  VelocityModel(const VelocityModel&) = default;
  VelocityModel(VelocityModel&&) = default;
  VelocityModel& operator=(const VelocityModel&) = default;
  VelocityModel& operator=(VelocityModel&&) = default;
};

}  // namespace sgmd
