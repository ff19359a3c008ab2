#include "nodes/vae/coding.h"

#include <ATen/ATen.h>

#include <iostream>

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

}  // namespace

void EncodeVideo(const EncodeOptions& o) {
  if (!o.out.parent_path().empty() && !std::filesystem::is_directory(o.out.parent_path())) {
    throw Error("no such folder", o.out.parent_path().string(), "make it first, or check the spelling");
  }
  VideoReaderOptions reading{0, 0, o.frames_per_second};
  if (!o.size.empty()) reading = {o.size[0], o.size[1], o.frames_per_second};
  const WanVae vae = WanVae::Load(o.vae, OpenDevice(o.device));
  const std::int64_t factor = vae.config().temporal_factor(), frames = FramesToEncode(o, reading, factor);
  VideoReader reader(o.video, reading);
  ProgressLine progress("encoding", 1 + (frames - 1) / factor);
  TimeCache cache;
  std::vector<at::Tensor> latents;
  for (std::int64_t done = 0; done < frames; done += done == 0 ? 1 : factor) {
    const at::Tensor pixels = ToPixels(reader.Next(done == 0 ? 1 : factor));
    if (done == 0) vae.CheckPixels(pixels.sizes());
    latents.push_back(vae.EncodeChunk(pixels, cache).cpu());
    progress.Update(static_cast<std::int64_t>(latents.size()));
  }
  progress.Finish();
  const at::Tensor whole = at::cat(latents, 2);
  SaveTensors(o.out, {{"latents", whole}},
              {{"sgmd.video", StrCat(o.video.filename().string(), ", ", frames, " frames")}});
  std::cout << StrCat("latents ", o.out.string(), " ", whole.sizes(), "\n");
}

void DecodeVideo(const DecodeOptions& o) {
  const at::Tensor latents = ReadLatents(o.latents);
  const WanVae vae = WanVae::Load(o.vae, OpenDevice(o.device));
  vae.CheckLatents(latents.sizes());
  const std::int64_t videos = latents.size(0), frames = latents.size(2);
  ProgressLine progress("decoding", videos * frames);
  for (std::int64_t b = 0; b < videos; ++b) {
    VideoWriter writer(PathOfVideo(o.out, b, videos), o.frames_per_second);
    TimeCache cache;
    for (std::int64_t t = 0; t < frames; ++t) {
      writer.Append(ToRgbFrames(vae.DecodeChunk(latents.narrow(0, b, 1).narrow(2, t, 1), cache)));
      progress.Update(b * frames + t + 1);
    }
    writer.Finish();
    std::cout << StrCat("video ", PathOfVideo(o.out, b, videos).string(), " ", writer.frames(), " frames\n");
  }
}

}  // namespace sgmd
