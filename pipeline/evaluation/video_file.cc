#include "pipeline/evaluation/video_file.h"

#include <ATen/ATen.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

std::vector<std::string> OutputOptions(const std::filesystem::path& path) {
  const std::string format = path.extension().string();
  if (format == ".gif") return {"-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse", "-loop", "0"};
  if (format == ".png") return {"-frames:v", "1", "-update", "1"};
  return {"-pix_fmt", "yuv420p", "-crf", "16"};
}

}  // namespace

at::Tensor EnlargeToRgb(const at::Tensor& video, std::int64_t factor) {
  const auto s = video.sizes();  // B, C, F, H, W
  const at::Tensor frames = video.to(at::kCPU).permute({0, 2, 1, 3, 4}).reshape({s[0] * s[2], s[1], s[3], s[4]});
  const at::Tensor large =
      at::upsample_bicubic2d(frames, {s[3] * factor, s[4] * factor}, false, c10::nullopt, c10::nullopt);
  return ((large + 1) * 127.5)
      .clamp(0, 255)
      .round()
      .to(at::kByte)
      .reshape({s[0], s[2], s[1], s[3] * factor, s[4] * factor})
      .permute({0, 1, 3, 4, 2})
      .contiguous();
}

at::Tensor ToRgbFrames(const at::Tensor& video) {
  return video.squeeze(0)
      .permute({1, 2, 3, 0})
      .add(1)
      .mul_(127.5)
      .clamp_(0, 255)
      .round_()
      .to(at::kCPU, at::kByte)
      .contiguous();
}

VideoWriter::VideoWriter(std::filesystem::path path, double frames_per_second)
    : path_(std::move(path)),
      temporary_(path_.parent_path() / (".tmp-" + path_.filename().string())),
      frames_per_second_(frames_per_second) {
  if (!(frames_per_second_ > 0))
    throw Error(StrCat(frames_per_second_, " frames a second"), path_.string(), "must be positive");
  const auto parent = path_.parent_path();
  if (!parent.empty() && !std::filesystem::is_directory(parent)) {
    throw Error("no such folder", parent.string(), "make it first, or check the spelling");
  }
}

VideoWriter::~VideoWriter() {
  if (ffmpeg_ == nullptr) return;
  ffmpeg_->Kill();
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

void VideoWriter::Start(std::int64_t height, std::int64_t width) {
  height_ = height;
  width_ = width;
  std::vector<std::string> arguments{
      "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", StrCat(width, "x", height), "-r", StrCat(frames_per_second_),
      "-i", "-"};
  for (const std::string& option : OutputOptions(path_)) arguments.push_back(option);
  arguments.push_back(std::filesystem::absolute(temporary_).string());  // "a:b.mp4" would name a protocol
  ffmpeg_ = std::make_unique<Ffmpeg>(Ffmpeg::Stream::kInto, arguments, path_.string());
}

void VideoWriter::Append(const at::Tensor& frames) {
  if (frames.dim() != 4 || frames.size(3) != 3 || frames.scalar_type() != at::kByte || frames.numel() == 0) {
    throw Error(StrCat("frames must be uint8 [F, H, W, 3], got ", frames.scalar_type(), " ", frames.sizes()),
                path_.string());
  }
  if (path_.extension() == ".png" && frames_ + frames.size(0) > 1) {
    throw Error("a PNG holds one frame, the video has more", path_.string(), "write an .mp4 or a .gif");
  }
  if (ffmpeg_ == nullptr) Start(frames.size(1), frames.size(2));
  if (frames.size(1) != height_ || frames.size(2) != width_) {
    throw Error(StrCat("a frame of ", frames.size(2), "x", frames.size(1), " in a video of ", width_, "x", height_),
                path_.string());
  }
  const at::Tensor bytes = frames.to(at::kCPU).contiguous();
  ffmpeg_->Write({static_cast<const std::byte*>(bytes.const_data_ptr()), bytes.nbytes()});
  frames_ += frames.size(0);
}

void VideoWriter::Finish() {
  if (ffmpeg_ == nullptr) throw Error("a video without frames", path_.string());
  ffmpeg_->Close();
  SyncPath(temporary_);
  std::filesystem::rename(temporary_, path_);
  ffmpeg_.reset();
}

void WriteVideo(const std::filesystem::path& path, const at::Tensor& frames, double frames_per_second) {
  VideoWriter writer(path, frames_per_second);
  writer.Append(frames);
  writer.Finish();
}

void WritePng(const std::filesystem::path& path, const at::Tensor& image) { WriteVideo(path, image.unsqueeze(0), 1); }

}  // namespace sgmd
