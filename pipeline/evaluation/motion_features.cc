#include "pipeline/evaluation/motion_features.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>

#include "common/error/error.h"
#include "pipeline/flow/random.h"

namespace sgmd {
namespace {

constexpr std::int64_t kHeads = 2 + 4 + 1 + 2;  // size, colour, speed, velocity
constexpr const char* kLayers[] = {"hidden.0", "hidden.1", "features", "heads"};

std::int64_t Pixels(const BouncingBallsShape& shape) { return 3 * shape.frames * shape.height * shape.width; }

NamedTensors Allocate(const BouncingBallsShape& shape) {
  const std::array<std::int64_t, 5> widths{Pixels(shape), MotionFeatures::kHidden, MotionFeatures::kHidden,
                                           MotionFeatures::kFeatures, kHeads};
  NamedTensors parameters;
  for (int i = 0; i < 4; ++i) {
    parameters.emplace_back(StrCat(kLayers[i], ".weight"), at::zeros({widths[i + 1], widths[i]}));
    parameters.emplace_back(StrCat(kLayers[i], ".bias"), at::zeros({widths[i + 1]}));
  }
  return parameters;
}

}  // namespace

MotionFeatures::MotionFeatures(const BouncingBallsShape& shape, std::uint64_t seed)
    : shape_(shape), parameters_(Allocate(shape)) {
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
  LoadTensors(file, network.parameters_);
  return network;
}

void MotionFeatures::Save(const std::filesystem::path& path, Metadata metadata) const {
  metadata["sgmd.video_shape"] = StrCat(shape_.frames, "x", shape_.height, "x", shape_.width);
  SaveTensors(path, parameters_, std::move(metadata));
}

at::Tensor MotionFeatures::Features(const at::Tensor& video) const {
  const std::vector<std::int64_t> wanted{video.size(0), 3, shape_.frames, shape_.height, shape_.width};
  if (video.sizes() != at::IntArrayRef(wanted)) {
    throw Error(StrCat("these features are of videos ", at::IntArrayRef(wanted), ", got ", video.sizes()));
  }
  at::Tensor x = video.reshape({video.size(0), -1}) + 1;  // black is 0
  for (int layer = 0; layer < 3; ++layer) {
    x = at::linear(x, parameters_[2 * layer].second, parameters_[2 * layer + 1].second);
    if (layer < 2) x = at::gelu(x);
  }
  return x;
}

at::Tensor MotionFeatures::Heads(const at::Tensor& features) const {
  return at::linear(at::gelu(features), parameters_[6].second, parameters_[7].second);
}

at::Tensor MotionFeatures::Loss(const BouncingBallBatch& batch) const {
  const at::Tensor heads = Heads(Features(batch.video));
  const at::Tensor prompt = at::tensor(batch.prompt);
  const at::Tensor size = at::cross_entropy_loss(heads.slice(1, 0, 2), prompt.div(4, "floor"));
  const at::Tensor colour = at::cross_entropy_loss(heads.slice(1, 2, 6), prompt % 4);
  return size + colour + 4 * at::mse_loss(heads.select(1, 6), batch.speed) +
         4 * at::mse_loss(heads.slice(1, 7, 9), batch.velocity);
}

MotionFeatures::Accuracy MotionFeatures::Test(const BouncingBallBatch& batch) const {
  const at::Tensor heads = Heads(Features(batch.video));
  const at::Tensor named = heads.slice(1, 0, 2).argmax(1) * 4 + heads.slice(1, 2, 6).argmax(1);
  return {named.eq(at::tensor(batch.prompt)).to(at::kDouble).mean().item<double>(),
          (heads.select(1, 6) - batch.speed).abs().mean().item<double>()};
}

}  // namespace sgmd
