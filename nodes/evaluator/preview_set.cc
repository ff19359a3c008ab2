#include "nodes/evaluator/preview_set.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "common/error/error.h"
#include "common/metrics/progress.h"
#include "pipeline/device/host_copy.h"
#include "pipeline/flow/flow_matching.h"
#include "pipeline/flow/random.h"
#include "pipeline/flow/sampling.h"
#include "pipeline/training/role_model.h"
#include "pipeline/vae/video_size.h"

namespace sgmd {
namespace {

// The initial noise of a video (step 0), or that of a step on the way: [1, C, F, H, W].
at::Tensor NoiseOf(const Experiment& e, std::int64_t step, std::int64_t video) {
  return Noise(e.data.latent, SeedFor(PreviewSet::kSeed, step, video, "evaluation_noise")).unsqueeze(0);
}

}  // namespace

PreviewSet::PreviewSet(const Experiment& experiment, const Topology::Evaluator& settings, at::Device device)
    : experiment_(experiment),
      bank_(PromptBank::Open(experiment.model.prompts)),
      vae_(WanVae::Load(settings.vae, device)),
      decoded_on_(device) {
  std::vector<std::int64_t> one = experiment.data.latent;
  one.insert(one.begin(), 1);
  vae_.CheckLatents(one);
  if (settings.vae_tile > 0) {
    vae_.TileSpace(VaeTiling::WithQuarterShared(settings.vae_tile, vae_.config().spatial_factor(), "vae_tile"));
    decoded_on_ = at::kCPU;
  }
  const std::size_t all = bank_.prompts().size(), videos = std::min(all, static_cast<std::size_t>(settings.videos));
  for (std::size_t i = 0; i < videos; ++i) {
    prompts_.push_back(bank_.texts()[i * all / videos]);
    digests_.push_back(bank_.prompts()[i * all / videos]);
  }
}

std::vector<at::Tensor> PreviewSet::Draw(const WanExperts& model, const std::vector<double>& sigmas,
                                         const Guidance& guidance, const std::string& title) const {
  const Conditioning negative = Conditioning{bank_.GatherNegative(1, model.config().text_len)}.To(model.device());
  return DrawEach(model, static_cast<std::int64_t>(sigmas.size()) - 1, title,
                  [&](std::int64_t, const at::Tensor& noise, const Conditioning& condition, const auto& on_step) {
                    return EulerSample(model, noise, sigmas, condition, negative, guidance, on_step);
                  });
}

std::vector<at::Tensor> PreviewSet::DrawStudent(const WanExperts& student, const std::string& title) const {
  const Experiment::Schedule& schedule = experiment_.schedule;
  const std::vector<double> sigmas = StudentSigmas(schedule.student_steps, schedule.student_shift);
  if (schedule.rollout == RolloutForm::kEuler) return Draw(student, sigmas, 1.0, title);
  return DrawEach(student, static_cast<std::int64_t>(schedule.student_steps.size()), title,
                  [&](std::int64_t video, const at::Tensor& noise, const Conditioning& condition, const auto& on_step) {
                    const auto step_noise = [&](std::int64_t step) {
                      return NoiseOf(experiment_, step, video).to(student.device());
                    };
                    return RenoiseSample(student, noise, sigmas, step_noise, condition, {}, 1.0, on_step);
                  });
}

std::vector<at::Tensor> PreviewSet::DrawEach(const WanExperts& model, std::int64_t steps, const std::string& title,
                                             const Sampler& sample) const {
  const auto videos = static_cast<std::int64_t>(digests_.size());
  ProgressLine progress("sampling: " + title, videos * steps);
  std::vector<at::Tensor> latents;
  for (std::int64_t i = 0; i < videos; ++i) {
    const Conditioning condition = bank_.ConditionsOf({digests_[i]}, model.config().text_len).To(model.device());
    const auto on_step = [&](std::int64_t done) { progress.Update(i * steps + done); };
    latents.push_back(ToHost(sample(i, NoiseOf(experiment_, 0, i).to(model.device()), condition, on_step)));
  }
  progress.Finish();
  return latents;
}

at::Tensor PreviewSet::Decode(const at::Tensor& latents) const { return ToHost(vae_.Decode(latents.to(decoded_on_))); }

double PreviewSet::frames_per_second() const { return FrameRate(vae_.channels()); }

WanPrecision PreviewSet::precision() const {
  return device().is_cpu() ? WanPrecision() : PrecisionOf(experiment_, /*frozen=*/true);
}

}  // namespace sgmd
