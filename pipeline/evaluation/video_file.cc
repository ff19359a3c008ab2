#include "pipeline/evaluation/video_file.h"

#include <ATen/ATen.h>
#include <sys/wait.h>

#include <cstdio>

#include "common/error/error.h"

namespace sgmd {
namespace {

std::string Quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// Pipes raw rgb24 frames [F, H, W, 3] to ffmpeg.
void RunFfmpeg(const at::Tensor& frames, double rate, const std::string& output_options, const std::filesystem::path& path) {
  const std::string command =
      StrCat("ffmpeg -y -loglevel error -f rawvideo -pix_fmt rgb24 -s ", frames.size(2), "x", frames.size(1), " -r ", rate,
             " -i - ", output_options, " ", Quoted(path.string()));
  std::FILE* pipe = ::popen(command.c_str(), "w");
  if (pipe == nullptr) ThrowErrno("cannot start ffmpeg", path.string());
  const at::Tensor bytes = frames.contiguous();
  const std::size_t written = std::fwrite(bytes.const_data_ptr(), 1, bytes.nbytes(), pipe);
  const int status = ::pclose(pipe);
  if (status != 0 || written != bytes.nbytes()) {
    throw Error(StrCat("ffmpeg failed with status ", WEXITSTATUS(status)), path.string(), "is ffmpeg installed and the disk not full?");
  }
}

}  // namespace

at::Tensor EnlargeToRgb(const at::Tensor& video, std::int64_t factor) {
  const auto s = video.sizes();  // B, C, F, H, W
  const at::Tensor frames = video.to(at::kCPU).permute({0, 2, 1, 3, 4}).reshape({s[0] * s[2], s[1], s[3], s[4]});
  const at::Tensor large = at::upsample_bicubic2d(frames, {s[3] * factor, s[4] * factor}, false, c10::nullopt, c10::nullopt);
  return ((large + 1) * 127.5)
      .clamp(0, 255)
      .round()
      .to(at::kByte)
      .reshape({s[0], s[2], s[1], s[3] * factor, s[4] * factor})
      .permute({0, 1, 3, 4, 2})
      .contiguous();
}

void WriteVideo(const std::filesystem::path& path, const at::Tensor& frames, double frames_per_second) {
  const bool gif = path.extension() == ".gif";
  RunFfmpeg(frames, frames_per_second,
            gif ? "-vf 'split[a][b];[a]palettegen[p];[b][p]paletteuse' -loop 0" : "-pix_fmt yuv420p -crf 16", path);
}

void WritePng(const std::filesystem::path& path, const at::Tensor& image) {
  RunFfmpeg(image.unsqueeze(0), 1, "-frames:v 1", path);
}

}  // namespace sgmd
