#include "nodes/evaluator/picture_grid.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <opencv2/imgproc.hpp>
#include <sstream>

#include "pipeline/evaluation/video_file.h"

namespace sgmd {
namespace {

constexpr int kFrameLine = 2, kGutter = 10, kLine = 16, kRowNames = 96;  // pixels
constexpr double kFont = 0.42;
constexpr int kPaper = 250, kInk = 40;

using Tiles = std::vector<std::vector<at::Tensor>>;  // [row][column], each uint8 [F, h, w, 3]
using Lines = std::vector<std::string>;

int WidthOf(const std::string& text) {
  int below = 0;
  return cv::getTextSize(text, cv::FONT_HERSHEY_SIMPLEX, kFont, 1, &below).width;
}

// Words on as few lines of `width` pixels as they need; a word that is too long stands alone.
Lines Wrapped(const std::string& text, int width) {
  Lines lines;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (!lines.empty() && WidthOf(lines.back() + " " + word) <= width) {
      lines.back() += " " + word;
    } else {
      lines.push_back(word);
    }
  }
  return lines;
}

void Write(cv::Mat& paper, const Lines& lines, int x, int y) {
  for (const std::string& line : lines) {
    y += kLine;
    cv::putText(paper, line, {x, y - 4}, cv::FONT_HERSHEY_SIMPLEX, kFont, cv::Scalar::all(kInk), 1, cv::LINE_AA);
  }
}

at::Tensor Drawn(const PictureGrid& grid, const Tiles& tiles) {
  const int height = static_cast<int>(tiles[0][0].size(1)), width = static_cast<int>(tiles[0][0].size(2));
  std::vector<Lines> heads;
  for (const std::string& name : grid.columns) heads.push_back(Wrapped(name, width));
  std::size_t head_lines = 0;
  for (const Lines& lines : heads) head_lines = std::max(head_lines, lines.size());
  const int left = kGutter + (grid.rows.empty() ? 0 : kRowNames);
  const int top = kGutter + kLine * static_cast<int>(head_lines);
  const auto x = [&](std::size_t column) { return left + static_cast<int>(column) * (width + kGutter); };
  const auto y = [&](std::size_t row) { return top + static_cast<int>(row) * (height + kGutter); };
  cv::Mat paper(y(tiles.size()), x(tiles[0].size()), CV_8UC3, cv::Scalar::all(kPaper));
  for (std::size_t c = 0; c < heads.size(); ++c) Write(paper, heads[c], x(c), kGutter / 2);
  for (std::size_t r = 0; r < grid.rows.size(); ++r) {
    const Lines lines = Wrapped(grid.rows[r], kRowNames - kGutter);
    Write(paper, lines, kGutter, y(r) + std::max(0, height - kLine * static_cast<int>(lines.size())) / 2);
  }
  const at::Tensor blank = at::from_blob(paper.data, {1, paper.rows, paper.cols, 3}, at::kByte);
  at::Tensor picture = blank.repeat({tiles[0][0].size(0), 1, 1, 1});
  for (std::size_t r = 0; r < tiles.size(); ++r) {
    for (std::size_t c = 0; c < tiles[r].size(); ++c) {
      picture.slice(1, y(r), y(r) + height).slice(2, x(c), x(c) + width).copy_(tiles[r][c]);
    }
  }
  return picture;
}

Tiles Enlarged(const PictureGrid& grid, std::int64_t enlarge, at::Tensor (*tile)(const at::Tensor& frames)) {
  Tiles tiles;
  for (const auto& row : grid.cells) {
    tiles.emplace_back();
    for (const at::Tensor& video : row) tiles.back().push_back(tile(EnlargeToRgb(video.unsqueeze(0), enlarge)[0]));
  }
  return tiles;
}

// [F, h, w, 3] -> [1, h, F (w + line) - line, 3]
at::Tensor Strip(const at::Tensor& frames) {
  const at::Tensor lined = at::constant_pad_nd(frames, {0, 0, 0, kFrameLine}, kPaper);
  const at::Tensor strip = at::cat(lined.unbind(0), 1);
  return strip.slice(1, 0, strip.size(1) - kFrameLine).unsqueeze(0);
}

}  // namespace

PictureGrid PictureGrid::Transposed() const {
  PictureGrid other{rows, columns, {}};
  for (std::size_t c = 0; c < cells[0].size(); ++c) {
    other.cells.emplace_back();
    for (const auto& row : cells) other.cells.back().push_back(row[c]);
  }
  return other;
}

at::Tensor Strips(const PictureGrid& grid, std::int64_t enlarge) {
  return Drawn(grid, Enlarged(grid, enlarge, Strip))[0];
}

at::Tensor Moving(const PictureGrid& grid, std::int64_t enlarge) {
  return Drawn(grid, Enlarged(grid, enlarge, [](const at::Tensor& frames) { return frames; }));
}

}  // namespace sgmd
