#include "nodes/sampler/first_frames.h"

#include <ATen/ATen.h>

#include <optional>

#include "common/error/error.h"
#include "common/metrics/progress.h"
#include "pipeline/image/first_frame_encoder.h"
#include "pipeline/image/picture.h"
#include "pipeline/vae/video_size.h"

namespace sgmd {
namespace {

// In pixels, of what is encoded: the picture and the grey frames behind it, or the picture that is held.
VideoExtent ExtentOf(const WanConfig& config, const std::vector<std::int64_t>& latent) {
  const auto cell = PixelsPerLatent(latent[0]);
  const std::int64_t frames = config.may_hold_image() ? 1 : (latent[1] - 1) * cell[0] + 1;
  return {frames, latent[2] * cell[1], latent[3] * cell[2]};
}

}  // namespace

void CheckImages(const SampleOptions& o, const WanConfig& config, const std::filesystem::path& vae,
                 const std::filesystem::path& image_encoder) {
  if (o.images.empty()) return;
  if (!config.takes_image() && !config.may_hold_image())
    throw Error("the model makes videos of a text alone", "--image", "leave it out");
  if (vae.empty()) throw Error("a first frame needs the model's VAE", "--image", "give --vae");
  if (config.takes_clip() && image_encoder.empty())
    throw Error("the model takes CLIP tokens of the first frame", "--image", "give --image-encoder");
  for (const auto& image : o.images) {
    if (!std::filesystem::is_regular_file(image)) throw Error("no such picture", image.string());
  }
}

void AddImages(const SampleOptions& o, const WanConfig& config, const std::filesystem::path& vae,
               const std::filesystem::path& image_encoder, const std::vector<std::int64_t>& shape,
               Conditioning& condition) {
  if (config.takes_image() && o.images.empty() && !condition.image.defined())
    throw Error("the model makes videos of a first frame", o.model.string(), "give --image first.png");
  if (o.images.empty()) return;
  const auto videos = static_cast<std::size_t>(condition.text.size(0)), count = o.images.size();
  if (count != 1 && count != videos)
    throw Error(StrCat(count, " pictures for ", videos, " prompts"), "--image", "give one, or one for each prompt");
  const FirstFrameEncoder encoder(vae, config.takes_clip() ? image_encoder : std::filesystem::path(),
                                  ExtentOf(config, shape), at::Device(o.device));
  std::optional<ProgressLine> line;
  std::vector<at::Tensor> images, clip;
  for (std::size_t i = 0; i < count; ++i) {
    const auto encoded = encoder.Encode(ReadPicture(o.images[i]), [&](std::int64_t done, std::int64_t total) {
      if (!line) line.emplace("encoding first frames", static_cast<std::int64_t>(count) * total);
      line->Update(static_cast<std::int64_t>(i) * total + done);
    });
    images.push_back(encoded.latents);
    if (encoded.clip.defined()) clip.push_back(encoded.clip);
  }
  images.resize(videos, images.front());
  condition.image = at::stack(images);
  if (clip.empty()) return;
  clip.resize(videos, clip.front());
  condition.clip = at::stack(clip);
}

}  // namespace sgmd
