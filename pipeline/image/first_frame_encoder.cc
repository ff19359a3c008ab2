#include "pipeline/image/first_frame_encoder.h"

#include <ATen/ATen.h>

#include "common/error/error.h"
#include "pipeline/evaluation/video_reader.h"
#include "pipeline/image/picture.h"

namespace sgmd {
namespace {

Digest DigestOf(const WanVae& vae) {
  Hasher hasher;
  for (const auto& numbers : {vae.config().latents_mean, vae.config().latents_std}) {
    for (const double number : numbers) hasher.Real(number);
  }
  for (const auto& [name, tensor] : vae.parameters()) {
    const at::Tensor bytes = tensor.cpu().contiguous();
    const TensorView view = ViewOf(name, bytes);
    hasher.Text(name);
    for (const std::int64_t extent : view.shape) hasher.Integer(static_cast<std::uint64_t>(extent));
    hasher.Bytes(view.bytes);
  }
  return hasher.Finish();
}

}  // namespace

FirstFrameEncoder::FirstFrameEncoder(const std::filesystem::path& vae, const std::filesystem::path& clip,
                                     const VideoExtent& extent, at::Device device)
    : vae_(WanVae::Load(vae, device)), extent_(extent) {
  if (extent_.frames == 0) extent_.frames = vae_.config().z_dim == VaeConfig::Wan22().z_dim ? 1 : 81;
  vae_.CheckPixels({1, 3, extent_.frames, extent_.height, extent_.width});
  if (!clip.empty()) clip_ = ClipVision::Load(clip, device);
}

// The frames behind the first are zeros in [-1, 1], which is grey; a chunk of them at a time, as the VAE takes them.
FirstFrameEncoder::Encoded FirstFrameEncoder::Encode(const at::Tensor& picture, const VaeProgress& progress) const {
  const auto& [frames, height, width] = extent_;
  const std::int64_t step = vae_.config().temporal_factor(), chunks = 1 + (frames - 1) / step;
  const at::Tensor first = ToPixels(ResizePicture(picture, height, width, Resampling::kLanczos).unsqueeze(0)),
                   grey = at::zeros({1, 3, step, height, width});
  TimeCache cache;
  std::vector<at::Tensor> latents;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    latents.push_back(vae_.EncodeChunk(chunk == 0 ? first : grey, cache).cpu());
    if (progress) progress(chunk + 1, chunks);
  }
  return {at::cat(latents, 2)[0].contiguous(), clip_ ? clip_->Encode(picture) : at::Tensor()};
}

std::string FirstFrameEncoder::identity() const {
  return StrCat("vae ", DigestOf(vae_).Hex(), clip_ ? StrCat(", clip ", clip_->digest().Hex()) : "", ", ",
                extent_.frames, " frames of ", extent_.height, "x", extent_.width);
}

}  // namespace sgmd
