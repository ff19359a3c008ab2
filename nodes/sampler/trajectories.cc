#include "nodes/sampler/trajectories.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <optional>

#include "pipeline/flow/sampling.h"
#include "pipeline/models/wan_transformer.h"

namespace sgmd {
namespace {

// Tokens of one forward call: a Wan video of 480x832x81 has 32,760. Small videos go together, large ones one by one.
constexpr std::int64_t kTokensAtOnce = 32768;

// Some of the videos, on the way.
class Batch {
 public:
  Batch(const TrajectoryOptions& options, std::int64_t first, const at::Tensor& noise, const Conditioning& condition,
        const at::Tensor& negative)
      : options_(options),
        first_(first),
        solver_(options.grid.sigmas),
        x_(noise),
        condition_(condition),
        negative_(negative),
        samples_{noise} {}

  bool Done() const { return step_ == options_.grid.timesteps.size(); }
  double timestep() const { return options_.grid.timesteps[step_]; }
  const std::vector<at::Tensor>& samples() const { return samples_; }

  void Step(const WanTransformer& model, double guidance) {
    // float64: the network is to be told an integer timestep exactly
    const at::Tensor sigma = at::full({x_.size(0)}, timestep() / 1000, x_.options().dtype(at::kDouble));
    const at::Tensor velocity =
        GuidedVelocity(model, x_, sigma, condition_, {negative_}, guidance).to(x_.scalar_type());
    x_ = options_.unipc ? solver_.Step(x_, velocity) : FirstOrderStep(velocity);
    ++step_;
    if (!options_.keep) samples_.clear();
    samples_.push_back(x_.cpu());
  }

 private:
  at::Tensor FirstOrderStep(const at::Tensor& velocity) const {
    const double sigma = options_.grid.sigmas[step_], next = options_.grid.sigmas[step_ + 1];
    if (!options_.step_noise) return EulerStep(x_, velocity, sigma, next);
    std::vector<at::Tensor> noise;
    for (std::int64_t i = 0; next > 0 && i < x_.size(0); ++i)
      noise.push_back(options_.step_noise(x_[i].sizes(), first_ + i, static_cast<std::int64_t>(step_) + 1));
    const at::Tensor fresh = noise.empty() ? at::Tensor() : at::stack(noise).to(x_.device());
    return RenoiseStep(x_, velocity, sigma, next, fresh);
  }

  const TrajectoryOptions& options_;
  std::int64_t first_;  // of the videos
  UniPc solver_;
  std::size_t step_ = 0;
  at::Tensor x_;
  Conditioning condition_;
  at::Tensor negative_;
  std::vector<at::Tensor> samples_;
};

std::int64_t VideosAtOnce(const WanConfig& config, const at::Tensor& noise) {
  const std::int64_t tokens = noise[0][0].numel() / config.patch_volume();
  return std::max<std::int64_t>(1, kTokensAtOnce / std::max<std::int64_t>(tokens, 1));
}

std::vector<Batch> Split(const TrajectoryOptions& options, std::int64_t size, const at::Tensor& noise,
                         const Conditioning& condition, const at::Tensor& negative) {
  std::vector<Batch> batches;
  const auto part = [&](const at::Tensor& all, std::int64_t begin, std::int64_t count) {
    return all.defined() ? all.narrow(0, begin, count).to(options.device) : all;
  };
  for (std::int64_t begin = 0; begin < noise.size(0); begin += size) {
    const std::int64_t count = std::min(size, noise.size(0) - begin);
    at::Tensor null = negative;
    const auto& [text, image, clip] = condition;
    if (null.defined()) null = part(negative.size(0) == 1 ? negative.expand_as(text) : negative, begin, count);
    batches.emplace_back(options, begin, part(noise, begin, count),
                         Conditioning{part(text, begin, count), part(image, begin, count), part(clip, begin, count)},
                         null);
  }
  return batches;
}

std::vector<at::Tensor> Join(const std::vector<Batch>& batches) {
  std::vector<at::Tensor> joined;
  for (std::size_t i = 0; i < batches.front().samples().size(); ++i) {
    std::vector<at::Tensor> parts;
    for (const Batch& batch : batches) parts.push_back(batch.samples()[i].cpu());
    joined.push_back(at::cat(parts));
  }
  return joined;
}

}  // namespace

std::vector<at::Tensor> Integrate(const std::vector<Expert>& experts, const TrajectoryOptions& options,
                                  const at::Tensor& noise, const Conditioning& condition, const at::Tensor& negative,
                                  const std::function<void(std::int64_t, std::int64_t)>& progress) {
  const c10::NoGradGuard no_grad;
  std::vector<Batch> batches;
  std::int64_t done = 0;
  for (std::size_t i = 0; i < experts.size(); ++i) {
    const WanTransformer model = WanTransformer::Load(experts[i].model, options.device, options.dtype);
    if (batches.empty()) batches = Split(options, VideosAtOnce(model.config(), noise), noise, condition, negative);
    const auto total = static_cast<std::int64_t>(batches.size() * options.grid.timesteps.size());
    if (progress) progress(done, total);  // the clock starts after loading
    for (Batch& batch : batches) {
      while (!batch.Done() && IsFrom(experts[i].min_sigma, batch.timestep() / 1000)) {
        batch.Step(model, options.guidance[i]);
        if (progress) progress(++done, total);
      }
    }
  }
  return Join(batches);
}

}  // namespace sgmd
