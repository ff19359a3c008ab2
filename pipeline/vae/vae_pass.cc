#include "pipeline/vae/vae_pass.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace sgmd {
namespace {

constexpr std::int64_t kTime = 2, kHeight = 3, kWidth = 4;  // axes of [B, C, T, H, W]

struct Rectangle {
  std::int64_t top, left, height, width;  // in latent pixels
};

// `unit` elements of `x` are a latent pixel.
at::Tensor Cut(const at::Tensor& x, std::int64_t unit, const Rectangle& of) {
  return x.narrow(kHeight, unit * of.top, unit * of.height).narrow(kWidth, unit * of.left, unit * of.width);
}

// Puts one video together.
class TiledVideo {
 public:
  TiledVideo(const VaePass& pass, const TileGrid& grid, at::Tensor in, at::Tensor result)
      : pass_(pass),
        grid_(grid),
        in_(std::move(in)),
        result_(std::move(result)),
        seams_(grid.shared * pass.coded, grid.columns.size()) {}

  // Calls `chunk_done` after each chunk.
  void RunTile(std::size_t row, std::size_t column, const std::function<void()>& chunk_done) {
    const TileSpan &down = grid_.rows[row], &along = grid_.columns[column];
    const at::Tensor tile = Cut(in_, pass_.in, {down.begin, along.begin, down.length, along.length});
    const at::Tensor result = Cut(result_, pass_.out, {down.begin, along.begin, down.kept, along.kept});
    TimeCache cache;
    std::int64_t read = 0, written = 0;
    for (std::size_t chunk = 0; read < tile.size(kTime); ++chunk) {
      const std::int64_t frames = chunk == 0 ? pass_.first_frames : pass_.more_frames;
      at::Tensor part = pass_.code(tile.narrow(kTime, read, frames), cache).to(result.device());
      read += frames;
      seams_.Blend(row, column, chunk, part);
      const at::Tensor done = pass_.finish(Cut(part, pass_.coded, {0, 0, down.kept, along.kept}));
      result.narrow(kTime, written, done.size(kTime)).copy_(done);
      written += done.size(kTime);
      chunk_done();
    }
  }

 private:
  const VaePass& pass_;
  const TileGrid& grid_;
  at::Tensor in_, result_;  // [1, C, F, H, W]
  TileSeams seams_;
};

}  // namespace

at::Tensor RunVideos(const VaePass& pass, const TileGrid& grid, const at::Tensor& x, const VaeProgress& progress) {
  const c10::NoGradGuard no_grad;
  const at::Tensor result = at::empty(pass.result, at::TensorOptions(at::kFloat).device(x.device()));
  const std::int64_t chunks = 1 + (x.size(kTime) - pass.first_frames) / pass.more_frames;
  const std::int64_t total = x.size(0) * grid.tiles() * chunks;
  std::int64_t done = 0;
  const auto chunk_done = [&] {
    if (progress) progress(++done, total);
  };
  for (std::int64_t b = 0; b < x.size(0); ++b) {
    TiledVideo video(pass, grid, x.narrow(0, b, 1), result.narrow(0, b, 1));
    for (std::size_t row = 0; row < grid.rows.size(); ++row) {
      for (std::size_t column = 0; column < grid.columns.size(); ++column) video.RunTile(row, column, chunk_done);
    }
  }
  return result;
}

}  // namespace sgmd
