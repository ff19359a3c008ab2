#include "nodes/vae/coding.h"

#include <ATen/ATen.h>

#include <iostream>
#include <optional>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/metrics/progress.h"
#include "pipeline/device/open_device.h"
#include "pipeline/evaluation/video_file.h"
#include "pipeline/evaluation/video_reader.h"
#include "pipeline/vae/wan_vae.h"

namespace sgmd {
namespace {

// How many frames to encode: 1 + k factor of those that are there and wanted.
std::int64_t FramesToEncode(const EncodeOptions& o, const VideoReaderOptions& reading, std::int64_t factor) {
  const std::int64_t found = CountFrames(o.video, reading);
  if (found < std::max<std::int64_t>(o.frames, 1)) {
    throw Error(StrCat(found, " frames, ", o.frames, " wanted"), o.video.string(),
                "ask for fewer with --frames, or raise --fps");
  }
  const std::int64_t wanted = o.frames > 0 ? o.frames : found, kept = (wanted - 1) / factor * factor + 1;
  if (kept != wanted) LogInfo(wanted, " frames: the first ", kept, " (1 + ", factor, " k) are encoded");
  return kept;
}

// clip.mp4 -> clip-3.mp4 when there are several.
std::filesystem::path PathOfVideo(const std::filesystem::path& out, std::int64_t index, std::int64_t count) {
  if (count == 1) return out;
  return out.parent_path() / StrCat(out.stem().string(), "-", index, out.extension().string());
}

at::Tensor ReadLatents(const std::filesystem::path& path) {
  const at::Tensor latents = CopyToTensor(SafetensorsFile::Open(path).At("latents")).to(at::kFloat);
  return latents.dim() == 4 ? latents.unsqueeze(0) : latents;
}

// `tile` 0: whole frames.
WanVae OpenVae(const std::filesystem::path& path, const std::string& device, std::int64_t tile) {
  WanVae vae = WanVae::Load(path, OpenDevice(device));
  if (tile > 0) vae.TileSpace(VaeTiling::WithQuarterShared(tile, vae.config().spatial_factor(), "--vae-tile"));
  return vae;
}

// Shows the chunks of video `index` of `count` on one line for all, which begins when the first chunk is done.
VaeProgress Shown(std::optional<ProgressLine>& line, const std::string& title, std::int64_t index = 0,
                  std::int64_t count = 1) {
  return [&line, title, index, count](std::int64_t done, std::int64_t total) {
    if (!line) line.emplace(title, count * total);
    line->Update(index * total + done);
  };
}

at::Tensor EncodeAsItComes(const WanVae& vae, VideoReader& reader, std::int64_t frames, const VaeProgress& progress) {
  const std::int64_t factor = vae.config().temporal_factor(), chunks = 1 + (frames - 1) / factor;
  TimeCache cache;
  std::vector<at::Tensor> latents;
  for (std::int64_t k = 0; k < chunks; ++k) {
    const at::Tensor pixels = ToPixels(reader.Next(k == 0 ? 1 : factor));
    if (k == 0) vae.CheckPixels(pixels.sizes());
    latents.push_back(vae.EncodeChunk(pixels, cache).cpu());
    progress(k + 1, chunks);
  }
  return at::cat(latents, 2);
}

void DecodeAsItComes(const WanVae& vae, const at::Tensor& latents, VideoWriter& writer, const VaeProgress& progress) {
  TimeCache cache;
  for (std::int64_t t = 0; t < latents.size(2); ++t) {
    writer.Append(ToRgbFrames(vae.DecodeChunk(latents.narrow(2, t, 1), cache)));
    progress(t + 1, latents.size(2));
  }
}

}  // namespace

void EncodeVideo(const EncodeOptions& o) {
  if (!o.out.parent_path().empty() && !std::filesystem::is_directory(o.out.parent_path())) {
    throw Error("no such folder", o.out.parent_path().string(), "make it first, or check the spelling");
  }
  VideoReaderOptions reading{0, 0, o.frames_per_second};
  if (!o.size.empty()) reading = {o.size[0], o.size[1], o.frames_per_second};
  const WanVae vae = OpenVae(o.vae, o.device, o.tile);
  const std::int64_t frames = FramesToEncode(o, reading, vae.config().temporal_factor());
  VideoReader reader(o.video, reading);
  std::optional<ProgressLine> line;
  const VaeProgress progress = Shown(line, "encoding");
  const at::Tensor latents =
      o.tile > 0 ? vae.Encode(ToPixels(reader.Next(frames)), progress) : EncodeAsItComes(vae, reader, frames, progress);
  line.reset();
  SaveTensors(o.out, {{"latents", latents}},
              {{"sgmd.video", StrCat(o.video.filename().string(), ", ", frames, " frames")}});
  std::cout << StrCat("latents ", o.out.string(), " ", latents.sizes(), "\n");
}

void DecodeVideo(const DecodeOptions& o) {
  const at::Tensor latents = ReadLatents(o.latents);
  const WanVae vae = OpenVae(o.vae, o.device, o.tile);
  vae.CheckLatents(latents.sizes());
  const std::int64_t videos = latents.size(0);
  std::optional<ProgressLine> line;
  for (std::int64_t b = 0; b < videos; ++b) {
    const std::filesystem::path path = PathOfVideo(o.out, b, videos);
    VideoWriter writer(path, o.frames_per_second);
    const at::Tensor video = latents.narrow(0, b, 1);
    const VaeProgress progress = Shown(line, "decoding", b, videos);
    if (o.tile > 0) {
      writer.Append(ToRgbFrames(vae.Decode(video, progress)));
    } else {
      DecodeAsItComes(vae, video, writer, progress);
    }
    writer.Finish();
    std::cout << StrCat("video ", path.string(), " ", writer.frames(), " frames\n");
  }
}

}  // namespace sgmd
