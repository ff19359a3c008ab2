#include "pipeline/image/picture.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "common/error/error.h"
#include "pipeline/evaluation/video_reader.h"

namespace sgmd {
namespace {

constexpr int kFractionBits = 22;  // of weights in fixed point: 32 less 8 of a pixel and 2 for sums above one

double Support(Resampling resampling) { return resampling == Resampling::kLanczos ? 3 : 2; }

double Sinc(double x) {
  if (x == 0) return 1;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double Weight(Resampling resampling, double x) {
  if (resampling == Resampling::kLanczos) return x >= -3 && x < 3 ? Sinc(x) * Sinc(x / 3) : 0;
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// The pixels of the source that one of the result is made of.
struct Taps {
  std::int64_t first = 0;
  std::vector<std::int64_t> weights;  // in units of 2^-kFractionBits
};

Taps TapsOf(std::int64_t pixel, std::int64_t from, std::int64_t to, Resampling resampling) {
  const double scale = static_cast<double>(from) / static_cast<double>(to), widened = std::max(scale, 1.0);
  const double support = Support(resampling) * widened, center = (static_cast<double>(pixel) + 0.5) * scale;
  const auto first = std::max<std::int64_t>(0, static_cast<std::int64_t>(center - support + 0.5));
  const auto end = std::min(from, static_cast<std::int64_t>(center + support + 0.5));
  std::vector<double> weights;
  double sum = 0;
  for (std::int64_t x = first; x < end; ++x) {
    weights.push_back(Weight(resampling, (static_cast<double>(x) - center + 0.5) * (1 / widened)));
    sum += weights.back();
  }
  Taps taps{first, {}};
  for (const double weight : weights) {
    const double fixed = weight / sum * (1 << kFractionBits);
    taps.weights.push_back(static_cast<std::int64_t>(fixed + (fixed < 0 ? -0.5 : 0.5)));
  }
  return taps;
}

// [rows, from, inner] -> [rows, to, inner].
at::Tensor ResizeMiddle(const at::Tensor& picture, std::int64_t to, Resampling resampling) {
  const std::int64_t rows = picture.size(0), from = picture.size(1), inner = picture.size(2);
  if (from == to) return picture;
  const at::Tensor source = picture.contiguous(), result = at::empty({rows, to, inner}, at::kByte);
  const auto* in = source.const_data_ptr<std::uint8_t>();
  auto* out = result.mutable_data_ptr<std::uint8_t>();
  std::vector<std::int64_t> sums(static_cast<std::size_t>(inner));
  for (std::int64_t pixel = 0; pixel < to; ++pixel) {
    const Taps taps = TapsOf(pixel, from, to, resampling);
    for (std::int64_t row = 0; row < rows; ++row) {
      std::ranges::fill(sums, std::int64_t{1} << (kFractionBits - 1));
      for (std::size_t tap = 0; tap < taps.weights.size(); ++tap) {
        const auto* read = in + (row * from + taps.first + static_cast<std::int64_t>(tap)) * inner;
        for (std::int64_t i = 0; i < inner; ++i) sums[static_cast<std::size_t>(i)] += taps.weights[tap] * read[i];
      }
      for (std::int64_t i = 0; i < inner; ++i) {
        const std::int64_t level = sums[static_cast<std::size_t>(i)] >> kFractionBits;
        out[(row * to + pixel) * inner + i] = static_cast<std::uint8_t>(std::clamp<std::int64_t>(level, 0, 255));
      }
    }
  }
  return result;
}

}  // namespace

at::Tensor ReadPicture(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) throw Error("a folder, not a picture", path.string());
  const at::Tensor frames = VideoReader(path).Next(1);
  if (frames.size(0) == 0) throw Error("no picture here", path.string());
  return frames[0];
}

at::Tensor ResizePicture(const at::Tensor& picture, std::int64_t height, std::int64_t width, Resampling resampling) {
  TORCH_CHECK(picture.dim() == 3 && picture.size(2) == 3 && picture.scalar_type() == at::kByte,
              "a picture is uint8 [H, W, 3], got ", picture.sizes());
  const at::Tensor columns = ResizeMiddle(picture, width, resampling);
  return ResizeMiddle(columns.reshape({1, columns.size(0), width * 3}), height, resampling).view({height, width, 3});
}

at::Tensor MiddleSquare(const at::Tensor& picture, std::int64_t side, Resampling resampling) {
  const std::int64_t h = picture.size(0), w = picture.size(1), shorter = std::min(h, w);
  const std::int64_t height = side * h / shorter, width = side * w / shorter;
  const at::Tensor resized = ResizePicture(picture, height, width, resampling);
  return resized.narrow(0, (height - side) / 2, side).narrow(1, (width - side) / 2, side);
}

}  // namespace sgmd
