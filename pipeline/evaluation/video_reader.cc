#include "pipeline/evaluation/video_reader.h"

#include <ATen/ATen.h>

#include <cstdio>
#include <limits>

#include "common/error/error.h"

namespace sgmd {
namespace {

// Every frame comes as a PPM picture, which says its own size: "P6\n<width> <height>\n255\n" and then RGB.
std::vector<std::string> Arguments(const std::filesystem::path& path, const VideoReaderOptions& o) {
  const std::filesystem::path whole = std::filesystem::absolute(path);  // "a:b.mp4" would name a protocol
  if (!std::filesystem::exists(path)) throw Error("no such file or folder", path.string());
  std::vector<std::string> arguments{"-nostdin"};
  if (std::filesystem::is_directory(path)) {
    arguments.insert(arguments.end(), {"-f", "image2", "-pattern_type", "glob", "-i", (whole / "*.png").string()});
  } else {
    arguments.insert(arguments.end(), {"-i", whole.string()});
  }
  std::string filter;
  if (o.frames_per_second > 0) filter = StrCat("fps=", o.frames_per_second);
  if (o.width > 0 && o.height > 0) {
    filter += StrCat(filter.empty() ? "" : ",", "scale=", o.width, ":", o.height,
                     ":force_original_aspect_ratio=increase,crop=", o.width, ":", o.height);
  }
  if (!filter.empty()) arguments.insert(arguments.end(), {"-vf", filter});
  if (o.frames_per_second <= 0) arguments.insert(arguments.end(), {"-fps_mode", "passthrough"});
  arguments.insert(arguments.end(), {"-map", "0:v:0", "-f", "image2pipe", "-c:v", "ppm", "-"});
  return arguments;
}

}  // namespace

VideoReader::VideoReader(const std::filesystem::path& path, const VideoReaderOptions& options)
    : path_(path), ffmpeg_(Ffmpeg::Stream::kOutOf, Arguments(path, options), path.string()) {}

std::size_t VideoReader::Fill(std::span<std::byte> bytes) {
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const std::size_t got = ffmpeg_.Read(bytes.subspan(filled));
    if (got == 0) break;
    filled += got;
  }
  return filled;
}

// False at the end of the stream.
bool VideoReader::ReadHeader(std::int64_t* width, std::int64_t* height) {
  std::string header;  // byte by byte: what follows the third line is the picture
  for (int lines = 0; lines < 3 && header.size() < 64;) {
    std::byte byte{};
    if (Fill({&byte, 1}) == 0) break;
    header += static_cast<char>(byte);
    if (header.back() == '\n') ++lines;
  }
  if (header.empty()) return false;
  long long w = 0, h = 0;
  if (std::sscanf(header.c_str(), "P6\n%lld %lld\n255\n", &w, &h) != 2 || w < 1 || h < 1 || w > 65536 || h > 65536) {
    throw Error("ffmpeg wrote something that is not a picture", path_.string());
  }
  *width = w;
  *height = h;
  return true;
}

bool VideoReader::ReadFrame(std::vector<at::Tensor>* frames) {
  std::int64_t width = 0, height = 0;
  if (!ReadHeader(&width, &height)) return false;
  at::Tensor frame = at::empty({height, width, 3}, at::kByte);
  if (Fill({static_cast<std::byte*>(frame.mutable_data_ptr()), frame.nbytes()}) != frame.nbytes()) return false;
  if (!frames->empty() && frames->front().sizes() != frame.sizes()) {
    throw Error(StrCat("frames of different sizes: ", frames->front().sizes(), " and ", frame.sizes()), path_.string(),
                "ask for one width and height");
  }
  frames->push_back(std::move(frame));
  return true;
}

at::Tensor VideoReader::Next(std::int64_t count) {
  std::vector<at::Tensor> frames;
  while (!ended_ && static_cast<std::int64_t>(frames.size()) < count) {
    if (ReadFrame(&frames)) continue;
    ended_ = true;
    ffmpeg_.Close();
  }
  return frames.empty() ? at::empty({0, 0, 0, 3}, at::kByte) : at::stack(frames);
}

at::Tensor ReadVideo(const std::filesystem::path& path, const VideoReaderOptions& options) {
  return VideoReader(path, options).Next(std::numeric_limits<std::int64_t>::max());
}

std::int64_t CountFrames(const std::filesystem::path& path, VideoReaderOptions options) {
  options.width = options.height = 16;
  VideoReader reader(path, options);
  std::int64_t count = 0;
  for (std::int64_t got = 1; got > 0; count += got) got = reader.Next(256).size(0);
  return count;
}

at::Tensor ToPixels(const at::Tensor& frames) {
  return frames.permute({3, 0, 1, 2}).unsqueeze(0).to(at::kFloat).div_(127.5).sub_(1).contiguous();
}

}  // namespace sgmd
