// The encoder and the decoder of a Wan VAE as sequences of layers, plain (2.1) and with residual stages (2.2): wan_facts §3.
#pragma once

#include "pipeline/vae/vae_blocks.h"
#include "pipeline/vae/vae_config.h"

namespace sgmd {

/// convolution, stages, RMS norm, SiLU, convolution.
class VaeCoder {
 public:
  /// Patches [B, in_channels, F, H, W] -> [B, 2 z_dim, T, h, w]: mean and log variance before the last 1x1x1 convolution.
  /// The first chunk of a video has 1 + k temporal_factor frames, later ones k temporal_factor.
  static VaeCoder Encoder(const VaeConfig& config, VaeBuilder& builder);
  /// [B, z_dim, T, h, w] -> patches [B, out_channels, F, H, W], not clamped.
  static VaeCoder Decoder(const VaeConfig& config, VaeBuilder& builder);

  at::Tensor Forward(at::Tensor x, TimeCache& cache) const;

 private:
  VaeCoder(VaeLayers layers, VaeBuilder& builder, const std::string& name, std::int64_t channels, std::int64_t out);

  VaeLayers layers_;  // with the first convolution
  VaeRmsNorm norm_;
  CausalConv3d conv_out_;
};

/// The parameter-free shortcut of a 2.2 encoder stage: frames padded with zeros in front to a multiple of `time`, every
/// (time, space, space) cube folded into channels (cube fastest), means over groups of them: -> `channels`.
at::Tensor AverageDown(const at::Tensor& x, std::int64_t channels, std::int64_t time, std::int64_t space);

/// Its counterpart in the decoder: channels repeated, then unfolded into cubes: -> `channels`. In the first chunk of a
/// video the first time - 1 frames are dropped.
at::Tensor DuplicateUp(const at::Tensor& x, std::int64_t channels, std::int64_t time, std::int64_t space, bool first);

}  // namespace sgmd
