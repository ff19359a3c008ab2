#include "pipeline/vae/video_size.h"

#include <algorithm>
#include <string>

#include "common/error/error.h"

namespace sgmd {
namespace {

std::array<std::int64_t, 3> DefaultSize(std::int64_t channels) {
  if (channels == 48) return {121, 704, 1280};
  if (channels == 16) return {81, 480, 832};
  return {8, 8, 8};
}

// The multiple of `step` (plus `offset`) nearest to `value`, at least one step, or the offset alone where there is one.
std::int64_t Nearest(std::int64_t value, std::int64_t step, std::int64_t offset) {
  const std::int64_t count = (value - offset + step / 2) / step;
  return std::max<std::int64_t>(count, offset > 0 ? 0 : 1) * step + offset;
}

}  // namespace

std::array<std::int64_t, 3> PixelsPerLatent(std::int64_t channels) {
  if (channels == 48) return {4, 16, 16};
  if (channels == 16) return {4, 8, 8};
  return {1, 1, 1};
}

double FrameRate(std::int64_t channels) { return channels == 48 ? 24 : channels == 16 ? 16 : 8; }

std::array<std::int64_t, 4> LatentShape(const WanConfig& config, const VideoSize& size) {
  const auto defaults = DefaultSize(config.out_dim);
  const std::array<std::int64_t, 3> asked{size.frames.value_or(defaults[0]), size.height.value_or(defaults[1]),
                                          size.width.value_or(defaults[2])};
  const auto cell = PixelsPerLatent(config.out_dim);
  // A clip of a VAE has one frame more than a multiple of its temporal stride.
  const std::int64_t first_frame = cell[0] > 1 ? 1 : 0;
  std::array<std::int64_t, 3> good{};
  for (int axis = 0; axis < 3; ++axis) {
    // With the extra frame, only one frame a patch is possible: all Wan models have that.
    good[axis] = Nearest(asked[axis], cell[axis] * config.patch_size[axis], axis == 0 ? first_frame : 0);
  }
  if (good != asked) {
    const auto text = [](const auto& s) { return StrCat(s[0], " frames of ", s[1], "x", s[2]); };
    throw Error(StrCat(text(asked), " (height x width) does not fit this model"), "",
                StrCat("the nearest size that does: ", text(good), "; height and width are multiples of ",
                       cell[1] * config.patch_size[1],
                       first_frame ? StrCat(", frames one more than a multiple of ", cell[0]) : ""));
  }
  return {config.out_dim, (good[0] - first_frame) / cell[0] + first_frame, good[1] / cell[1], good[2] / cell[2]};
}

}  // namespace sgmd
