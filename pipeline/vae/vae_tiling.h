// Frames in square tiles, so that a VAE needs the memory of one tile in place of that of a whole frame: tiled_decode
// and tiled_encode of diffusers' autoencoder_kl_wan.py.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace sgmd {

/// How frames are cut. A tile begins every `stride` pixels, and in the tile - stride pixels that two neighbours share
/// one fades into the other. The defaults are those of diffusers.
struct VaeTiling {
  std::int64_t tile = 256;    // side in pixels
  std::int64_t stride = 192;  // pixels from the beginning of a tile to that of the next, along height and along width

  /// Tiles of `tile` pixels of which neighbours share a quarter, rounded up to a multiple of `spatial_factor`, the
  /// pixels that a latent pixel stands for. `where` is where the size comes from, such as "--vae-tile". Throws Error
  /// unless `tile` is a multiple of `spatial_factor`, and at least twice that.
  static VaeTiling WithQuarterShared(std::int64_t tile, std::int64_t spatial_factor, const std::string& where);
  /// Throws Error unless both are positive multiples of `spatial_factor`, and stride < tile.
  void Validate(std::int64_t spatial_factor, const std::string& where) const;
};

/// What --vae-tile is, of every program that has it.
inline constexpr char kVaeTileHelp[] =
    "Take frames larger than so many pixels through the VAE in tiles, which share a quarter with their neighbours, "
    "where "
    "memory is short: 256 needs that of 256x256 pixels and about twice the time, and pictures differ a little "
    "(default: "
    "whole frames)";

/// One tile along one axis, in latent pixels. The result takes of it `kept` of them, from its beginning.
struct TileSpan {
  std::int64_t begin, length, kept;
  bool operator==(const TileSpan&) const = default;
};

/// Tiles along one axis of `length` latent pixels. Those at the end may be shorter than `tile`.
std::vector<TileSpan> TileSpans(std::int64_t length, std::int64_t tile, std::int64_t stride);

/// The tiles of a frame, in latent pixels, row by row and each row from the left.
struct TileGrid {
  std::vector<TileSpan> rows, columns;
  std::int64_t shared = 0;  // by two neighbours

  std::int64_t tiles() const { return static_cast<std::int64_t>(rows.size() * columns.size()); }
  /// A single tile.
  static TileGrid Whole(std::int64_t height, std::int64_t width);
  /// `height` and `width` are in latent pixels. A frame that is in neither direction larger than a tile is a single
  /// tile.
  static TileGrid Of(const VaeTiling& tiling, std::int64_t spatial_factor, std::int64_t height, std::int64_t width);
};

/// What the tiles of one video hand to their neighbours, while they come in the order of TileGrid, and each in chunks
/// of frames. As with blend_v and blend_h of diffusers, what is handed on has itself been blended.
class TileSeams {
 public:
  /// `shared` elements of a part along height, and as many along width, are shared by two neighbours.
  TileSeams(std::int64_t shared, std::size_t columns) : shared_(shared), above_(columns) {}

  /// `part` is chunk `chunk` of the tile in `row` and `column`, float32 [1, C, T, h, w] of any device. In place: the
  /// tile above fades into it from its upper edge down, then the one to the left from its left edge on. Keeps copies of
  /// its lower and right edges.
  void Blend(std::size_t row, std::size_t column, std::size_t chunk, at::Tensor& part);

 private:
  using Edges = std::vector<at::Tensor>;  // by chunk

  std::int64_t shared_;
  std::vector<Edges> above_;  // lower edges, by column: of this row left of the tile, of the row above from it on
  Edges left_;                // right edge of the tile before
};

}  // namespace sgmd
