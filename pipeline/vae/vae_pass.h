// How videos go through a coder of a VAE: one after the other, each tile by tile, and each tile in chunks of frames. A
// frame that is not cut is a single tile.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "pipeline/vae/vae_blocks.h"
#include "pipeline/vae/vae_tiling.h"

namespace sgmd {

/// `done` of `total` chunks: of all tiles of all videos.
using VaeProgress = std::function<void(std::int64_t done, std::int64_t total)>;

/// One direction, encoding or decoding.
struct VaePass {
  std::int64_t first_frames, more_frames;  // that go in: of the first chunk of a video, and of each further one
  /// What a latent pixel is along height, and along width: elements of the input, of what `code` gives, of the result.
  std::int64_t in, coded, out;
  std::vector<std::int64_t> result;  // its shape [B, C, F, H, W]
  /// A chunk [1, C, F, h, w] of a tile, with what the earlier ones left -> what tiles are blended in, float32.
  std::function<at::Tensor(const at::Tensor&, TimeCache&)> code;
  /// That of a tile, blended -> what the result has of it. May change its input.
  std::function<at::Tensor(const at::Tensor&)> finish;
};

/// `x` [B, C, F, H, W] -> float32 of pass.result on the device of `x`, where tiles are also blended. `progress` may be
/// empty.
at::Tensor RunVideos(const VaePass& pass, const TileGrid& grid, const at::Tensor& x, const VaeProgress& progress);

}  // namespace sgmd
