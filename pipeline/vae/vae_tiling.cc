#include "pipeline/vae/vae_tiling.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr std::int64_t kHeight = 3, kWidth = 4;  // axes of [B, C, T, H, W]

// The last `count` elements along `axis`, or all that there are, in storage of their own.
at::Tensor LastOf(const at::Tensor& x, std::int64_t axis, std::int64_t count) {
  const std::int64_t kept = std::min(count, x.size(axis));
  return x.narrow(axis, x.size(axis) - kept, kept).clone();
}

// Element i of the n that both have is i / n of `part` and the rest of `before`. A tile at the end of a frame may be
// shorter than what its neighbour shares with it; both end with the frame then.
void FadeIn(const at::Tensor& before, std::int64_t axis, at::Tensor& part) {
  const std::int64_t shared = std::min(before.size(axis), part.size(axis));
  std::vector<std::int64_t> along(part.dim(), 1);
  along[axis] = shared;
  const at::Tensor share_of_part = at::arange(shared, part.options()).div_(shared).view(along);
  at::Tensor edge = part.narrow(axis, 0, shared);
  edge.copy_(at::lerp(before.narrow(axis, before.size(axis) - shared, shared), edge, share_of_part));
}

void Keep(std::vector<at::Tensor>& edges, std::size_t chunk, at::Tensor edge) {
  if (edges.size() <= chunk) edges.resize(chunk + 1);
  edges[chunk] = std::move(edge);
}

// The multiples of `factor` around `value`, from `least` on.
std::string Nearest(std::int64_t value, std::int64_t factor, std::int64_t least) {
  const std::int64_t below = value / factor * factor;
  return below < least ? StrCat(least) : StrCat(below, " or ", below + factor);
}

}  // namespace

VaeTiling VaeTiling::WithQuarterShared(std::int64_t tile, std::int64_t factor, const std::string& where) {
  if (tile < 2 * factor || tile % factor != 0) {
    throw Error(StrCat("tiles of ", tile, " pixels; this VAE takes multiples of ", factor, ", at least ", 2 * factor),
                where, StrCat("give ", Nearest(tile, factor, 2 * factor), "; 256 is usual"));
  }
  const std::int64_t shared = (tile + 4 * factor - 1) / (4 * factor) * factor;
  return {tile, tile - shared};
}

void VaeTiling::Validate(std::int64_t factor, const std::string& where) const {
  if (tile <= 0 || stride <= 0 || tile % factor != 0 || stride % factor != 0) {
    throw Error(StrCat("tiles of ", tile, " pixels every ", stride, "; both must be multiples of ", factor, " above 0"),
                where, "256 and 192 are usual");
  }
  if (stride >= tile) {
    throw Error(StrCat("tiles of ", tile, " pixels every ", stride, " share nothing, and would show their edges"),
                where, "a stride below the tile, such as three quarters of it");
  }
}

std::vector<TileSpan> TileSpans(std::int64_t length, std::int64_t tile, std::int64_t stride) {
  std::vector<TileSpan> spans;
  for (std::int64_t begin = 0; begin < length; begin += stride) {
    spans.push_back({begin, std::min(tile, length - begin), std::min(stride, length - begin)});
  }
  return spans;
}

TileGrid TileGrid::Whole(std::int64_t height, std::int64_t width) {
  return {{{0, height, height}}, {{0, width, width}}, 0};
}

TileGrid TileGrid::Of(const VaeTiling& tiling, std::int64_t factor, std::int64_t height, std::int64_t width) {
  const std::int64_t tile = tiling.tile / factor, stride = tiling.stride / factor;
  if (height <= tile && width <= tile) return Whole(height, width);
  return {TileSpans(height, tile, stride), TileSpans(width, tile, stride), tile - stride};
}

void TileSeams::Blend(std::size_t row, std::size_t column, std::size_t chunk, at::Tensor& part) {
  if (shared_ == 0) return;
  if (row > 0) FadeIn(above_[column][chunk], kHeight, part);
  if (column > 0) FadeIn(left_[chunk], kWidth, part);
  Keep(above_[column], chunk, LastOf(part, kHeight, shared_));
  Keep(left_, chunk, LastOf(part, kWidth, shared_));
}

}  // namespace sgmd
