#include "pipeline/evaluation/motion_features.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>

#include "common/error/error.h"
#include "pipeline/evaluation/frechet.h"
#include "pipeline/flow/random.h"

namespace sgmd {
namespace {

constexpr const char* kLayers[] = {"frame", "hidden", "features", "heads"};
constexpr std::int64_t kPrompt = 2 + 4, kSpeed = 1, kVelocities = 4;  // size and colour; speed; first and last velocity
constexpr double kSmearScale = 8;  // a tenth more area counts as much as 0.8 px of a place

// Outputs of the last layer: the above, then two coordinates of every frame, then the smear of each.
std::int64_t Outputs(const BouncingBallsShape& shape) { return kPrompt + kSpeed + kVelocities + 3 * shape.frames; }

NamedTensors Allocate(const BouncingBallsShape& shape) {
  using M = MotionFeatures;
  const std::int64_t inputs[] = {3 * shape.height * shape.width, shape.frames * M::kFrame, M::kHidden, M::kFeatures};
  const std::int64_t outputs[] = {M::kFrame, M::kHidden, M::kFeatures, Outputs(shape)};
  NamedTensors parameters;
  for (int i = 0; i < 4; ++i) {
    parameters.emplace_back(StrCat(kLayers[i], ".weight"), at::zeros({outputs[i], inputs[i]}));
    parameters.emplace_back(StrCat(kLayers[i], ".bias"), at::zeros({outputs[i]}));
  }
  return parameters;
}

// How many pixels would hold each frame's light if all were equally bright, [B, F]: log of 4 pi sigma^2 of a whole
// ball.
at::Tensor LogArea(const at::Tensor& video) {
  const at::Tensor light = ((video + 1) / 2).clamp_min(0).amax(1);
  return (light.sum({2, 3}).square() / light.square().sum({2, 3}).clamp_min(1e-6)).clamp_min(1).log();
}

}  // namespace

MotionFeatures::MotionFeatures(const BouncingBallsShape& shape, std::uint64_t seed)
    : shape_(shape), parameters_(Allocate(shape)), whitening_(at::eye(kFeatures)), centre_(at::zeros({kFeatures})) {
  for (std::size_t i = 0; i < parameters_.size(); i += 2) {
    at::Tensor& weight = parameters_[i].second;
    weight.copy_(Noise(weight.sizes(), SeedFor(seed, 0, static_cast<std::int64_t>(i), "motion_features")) /
                 std::sqrt(static_cast<double>(weight.size(1))));
  }
}

MotionFeatures MotionFeatures::Load(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::Open(path);
  const auto text = file.metadata().find("sgmd.video_shape");
  BouncingBallsShape shape;
  long long f = 0, h = 0, w = 0;
  if (text == file.metadata().end() || std::sscanf(text->second.c_str(), "%lldx%lldx%lld", &f, &h, &w) != 3 || f < 2 ||
      h < 1 || w < 1 || f * h * w > 1'000'000) {
    throw Error("not a feature network", path.string(), "sgmd-pretrainer features --out <file> makes one");
  }
  shape = {f, h, w};
  MotionFeatures network(shape, 0);
  LoadTensors(file, network.All());
  return network;
}

void MotionFeatures::Save(const std::filesystem::path& path, Metadata metadata) const {
  metadata["sgmd.video_shape"] = StrCat(shape_.frames, "x", shape_.height, "x", shape_.width);
  SaveTensors(path, All(), std::move(metadata));
}

NamedTensors MotionFeatures::All() const {
  NamedTensors all = parameters_;
  all.emplace_back("whitening", whitening_);
  all.emplace_back("centre", centre_);
  return all;
}

at::Tensor MotionFeatures::Features(const at::Tensor& video) const {
  return at::matmul(Hidden(video) - centre_, whitening_);
}

void MotionFeatures::Whiten(const at::Tensor& videos) {
  const FeatureStatistics statistics = StatisticsOf(Hidden(videos));
  const auto [values, vectors] = at::linalg_eigh(statistics.covariance);
  whitening_.copy_(vectors / values.clamp_min(1e-6).sqrt());
  centre_.copy_(statistics.mean);
}

at::Tensor MotionFeatures::Hidden(const at::Tensor& video) const {
  const std::vector<std::int64_t> wanted{video.size(0), 3, shape_.frames, shape_.height, shape_.width};
  if (video.sizes() != at::IntArrayRef(wanted)) {
    throw Error(StrCat("these features are of videos ", at::IntArrayRef(wanted), ", got ", video.sizes()));
  }
  at::Tensor x = video.transpose(1, 2).flatten(2) + 1;  // [B, F, 3 H W], black is 0
  x = at::gelu(at::linear(x, parameters_[0].second, parameters_[1].second)).flatten(1);
  x = at::gelu(at::linear(x, parameters_[2].second, parameters_[3].second));
  return at::linear(x, parameters_[4].second, parameters_[5].second);
}

at::Tensor MotionFeatures::Heads(const at::Tensor& video) const {
  return at::linear(at::gelu(Hidden(video)), parameters_[6].second, parameters_[7].second);
}

at::Tensor MotionFeatures::Loss(const BouncingBallBatch& batch, const at::Tensor& sharp) const {
  constexpr std::int64_t kPlace = kPrompt + kSpeed + kVelocities;
  const std::int64_t frames = shape_.frames, smear = kPlace + 2 * frames;
  const at::Tensor heads = Heads(batch.video), prompt = at::tensor(batch.prompt);
  const at::Tensor& place = batch.position;
  const at::Tensor last = place.select(1, frames - 1) - place.select(1, frames - 2);
  const at::Tensor motion = at::cat({batch.speed.unsqueeze(1), batch.velocity, last}, 1);
  return at::cross_entropy_loss(heads.slice(1, 0, 2), prompt.div(4, "floor")) +
         at::cross_entropy_loss(heads.slice(1, 2, 6), prompt % 4) +
         4 * at::mse_loss(heads.slice(1, kPrompt, kPlace), motion) +
         0.5 * at::mse_loss(heads.slice(1, kPlace, smear), place.flatten(1)) +
         at::mse_loss(heads.slice(1, smear), kSmearScale * (LogArea(batch.video) - LogArea(sharp)));
}

MotionFeatures::Accuracy MotionFeatures::Test(const BouncingBallBatch& batch) const {
  const at::Tensor heads = Heads(batch.video);
  const at::Tensor named = heads.slice(1, 0, 2).argmax(1) * 4 + heads.slice(1, 2, 6).argmax(1);
  return {named.eq(at::tensor(batch.prompt)).to(at::kDouble).mean().item<double>(),
          (heads.select(1, kPrompt) - batch.speed).abs().mean().item<double>()};
}

}  // namespace sgmd
