#include "nodes/evaluator/preview_set.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "common/error/error.h"
#include "common/metrics/progress.h"
#include "pipeline/device/host_copy.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/training/role_model.h"
#include "pipeline/vae/video_size.h"

namespace sgmd {

PreviewSet::PreviewSet(const Experiment& experiment, const Topology::Evaluator& settings, at::Device device)
    : experiment_(experiment),
      bank_(PromptBank::Open(experiment.model.prompts)),
      vae_(WanVae::Load(settings.vae, device)) {
  std::vector<std::int64_t> one = experiment.data.latent;
  one.insert(one.begin(), 1);
  vae_.CheckLatents(one);
  const std::size_t all = bank_.prompts().size(), videos = std::min(all, static_cast<std::size_t>(settings.videos));
  for (std::size_t i = 0; i < videos; ++i) {
    prompts_.push_back(bank_.texts()[i * all / videos]);
    digests_.push_back(bank_.prompts()[i * all / videos]);
  }
}

std::vector<at::Tensor> PreviewSet::Draw(const WanTransformer& model, const std::vector<double>& sigmas,
                                         double guidance, const std::string& title) const {
  const auto steps = static_cast<std::int64_t>(sigmas.size()) - 1, videos = static_cast<std::int64_t>(digests_.size());
  const std::int64_t rows = model.config().text_len;
  ProgressLine progress("sampling: " + title, videos * steps);
  std::vector<at::Tensor> latents;
  for (std::int64_t i = 0; i < videos; ++i) {
    const at::Tensor noise = Noise(experiment_.data.latent, SeedFor(kSeed, 0, i, "evaluation_noise")).unsqueeze(0);
    const Conditioning condition = Conditioning{bank_.Gather({digests_[i]}, rows)}.To(model.device());
    const Conditioning negative = Conditioning{bank_.GatherNegative(1, rows)}.To(model.device());
    latents.push_back(ToHost(EulerSample(model, noise.to(model.device()), sigmas, condition, negative, guidance,
                                         [&](std::int64_t done) { progress.Update(i * steps + done); })));
  }
  progress.Finish();
  return latents;
}

at::Tensor PreviewSet::Decode(const at::Tensor& latents) const {
  return ToHost(vae_.Decode(latents.to(vae_.device())));
}

double PreviewSet::frames_per_second() const { return FrameRate(vae_.channels()); }

WanPrecision PreviewSet::precision() const {
  return device().is_cpu() ? WanPrecision() : PrecisionOf(experiment_, /*frozen=*/true);
}

}  // namespace sgmd
