#include "nodes/sampler/output.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "common/error/error.h"
#include "pipeline/evaluation/video_file.h"

namespace sgmd {
namespace {

constexpr std::int64_t kFramesInARow = 8;

at::Tensor FramesInARow(const at::Tensor& video) {
  const std::int64_t frames = video.size(0), shown = std::min(frames, kFramesInARow);
  std::vector<at::Tensor> row;
  for (std::int64_t i = 0; i < shown; ++i) row.push_back(video[shown == 1 ? 0 : i * (frames - 1) / (shown - 1)]);
  return at::cat(row, 1);
}

}  // namespace

bool IsPicture(const std::filesystem::path& path) { return path.extension() != ".safetensors"; }

void CheckExtensions(const std::vector<std::filesystem::path>& paths) {
  for (const auto& path : paths) {
    const auto extension = path.extension();
    if (extension != ".safetensors" && extension != ".mp4" && extension != ".gif" && extension != ".png") {
      throw Error(StrCat("cannot write files of type \"", extension.string(), "\""), path.string(),
                  "use .safetensors (latents), .mp4, .gif or .png");
    }
    if (path.has_parent_path() && !std::filesystem::is_directory(path.parent_path())) {
      throw Error("no such folder", path.parent_path().string());
    }
  }
}

std::filesystem::path Numbered(const std::filesystem::path& path, std::int64_t number) {
  return path.parent_path() / StrCat(path.stem().string(), "-", number, path.extension().string());
}

void WriteVideos(const std::filesystem::path& path, const std::vector<at::Tensor>& videos, double frame_rate) {
  if (path.extension() == ".png") {
    std::vector<at::Tensor> rows;
    for (const at::Tensor& video : videos) rows.push_back(FramesInARow(video));
    WritePng(path, at::cat(rows, 0));
  } else {
    WriteVideo(path, at::cat(videos, 2), frame_rate);
  }
}

}  // namespace sgmd
