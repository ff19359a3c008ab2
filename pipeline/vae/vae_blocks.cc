#include "pipeline/vae/vae_blocks.h"

#include <ATen/ATen.h>

#include <cmath>
#include <functional>

namespace sgmd {
namespace {

constexpr std::int64_t kTime = 2;  // axis of [B, C, T, H, W]

// Runs `of_frame` ([B, C, H, W] -> [B, C', H', W']) frame by frame into one tensor, so that its temporaries are a frame's.
at::Tensor PerFrame(const at::Tensor& x, const std::function<at::Tensor(const at::Tensor&)>& of_frame) {
  at::Tensor out;
  for (std::int64_t t = 0; t < x.size(kTime); ++t) {
    const at::Tensor y = of_frame(x.select(kTime, t));
    if (!out.defined()) out = at::empty({y.size(0), y.size(1), x.size(kTime), y.size(2), y.size(3)}, y.options());
    out.select(kTime, t).copy_(y);
  }
  return out;
}

// The last `count` frames in storage of their own, so that the rest of the tensor can go.
at::Tensor LastFrames(const at::Tensor& x, std::int64_t count) { return x.narrow(kTime, x.size(kTime) - count, count).clone(); }

// [B, 2 C, T, H, W] -> [B, C, 2 T, H, W]: the halves of the channels are the frames 2 k and 2 k + 1.
at::Tensor Interleave(const at::Tensor& x) {
  const auto s = x.sizes();
  return x.reshape({s[0], 2, s[1] / 2, s[2], s[3], s[4]})
      .permute({0, 2, 3, 1, 4, 5})
      .reshape({s[0], s[1] / 2, 2 * s[2], s[3], s[4]});
}

}  // namespace

at::Tensor& TimeCache::At(std::size_t slot) {
  if (frames.size() <= slot) frames.resize(slot + 1);
  return frames[slot];
}

at::Tensor VaeBuilder::Add(const std::string& name, at::IntArrayRef shape) {
  return parameters.emplace_back(name, at::empty(shape, options)).second;
}

at::Tensor ForwardAll(const VaeLayers& layers, at::Tensor x, TimeCache& cache) {
  for (const auto& layer : layers) x = layer->Forward(std::move(x), cache);
  return x;
}

CausalConv3d::CausalConv3d(VaeBuilder& builder, const std::string& name, std::int64_t in, std::int64_t out, std::int64_t time,
                           std::int64_t space)
    : weight_(builder.Add(name + ".weight", {out, in, time, space, space})),
      bias_(builder.Add(name + ".bias", {out})),
      history_(time - 1),
      padding_(space / 2) {
  if (history_ > 0) slot_ = builder.slots++;
}

at::Tensor CausalConv3d::Forward(at::Tensor x, TimeCache& cache) const {
  if (history_ == 0) return at::conv3d(x, weight_, bias_);
  at::Tensor& before = cache.At(slot_);
  if (!before.defined()) {
    before = at::zeros({x.size(0), x.size(1), history_, x.size(3), x.size(4)}, x.options());
  }
  x = at::cat({before, x}, kTime);
  before = LastFrames(x, history_);
  return at::conv3d(x, weight_, bias_, 1, {0, padding_, padding_});
}

VaeRmsNorm::VaeRmsNorm(VaeBuilder& builder, const std::string& name, std::int64_t channels, bool images)
    : gamma_(builder.Add(name + ".gamma", images ? at::IntArrayRef{channels, 1, 1} : at::IntArrayRef{channels, 1, 1, 1})),
      scale_(std::sqrt(static_cast<double>(channels))) {}

at::Tensor VaeRmsNorm::operator()(const at::Tensor& x) const {
  const at::Tensor length = at::linalg_vector_norm(x, 2, at::IntArrayRef{1}, /*keepdim=*/true).clamp_min_(1e-12);
  return x.div(length).mul_(gamma_ * scale_);
}

at::Tensor VaeRmsNorm::ThenSilu(const at::Tensor& x) const {
  at::Tensor y = (*this)(x);
  return at::silu_(y);
}

ResidualBlock::ResidualBlock(VaeBuilder& builder, const std::string& name, std::int64_t in, std::int64_t out)
    : norm1_(builder, name + ".norm1", in),
      conv1_(builder, name + ".conv1", in, out),
      norm2_(builder, name + ".norm2", out),
      conv2_(builder, name + ".conv2", out, out) {
  if (in != out) shortcut_ = std::make_unique<CausalConv3d>(builder, name + ".conv_shortcut", in, out, 1, 1);
}

at::Tensor ResidualBlock::Forward(at::Tensor x, TimeCache& cache) const {
  at::Tensor h = conv1_.Forward(norm1_.ThenSilu(x), cache);
  if (shortcut_ != nullptr) x = shortcut_->Forward(std::move(x), cache);
  h = norm2_.ThenSilu(h);
  return conv2_.Forward(std::move(h), cache).add_(x);
}

FrameAttention::FrameAttention(VaeBuilder& builder, const std::string& name, std::int64_t channels)
    : channels_(channels),
      norm_(builder, name + ".norm", channels, /*images=*/true),
      qkv_weight_(builder.Add(name + ".to_qkv.weight", {3 * channels, channels, 1, 1})),
      qkv_bias_(builder.Add(name + ".to_qkv.bias", {3 * channels})),
      proj_weight_(builder.Add(name + ".proj.weight", {channels, channels, 1, 1})),
      proj_bias_(builder.Add(name + ".proj.bias", {channels})) {}

at::Tensor FrameAttention::Frame(const at::Tensor& x) const {
  // 1x1 convolutions are linear maps of the pixels. One head: [B, 1, H W, C]; scale 1/sqrt(C) is the default.
  const at::Tensor pixels = norm_(x).flatten(2).transpose(1, 2);
  const auto qkv = at::linear(pixels, qkv_weight_.flatten(1), qkv_bias_).unsqueeze(1).chunk(3, -1);
  const at::Tensor mixed = at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]).squeeze(1);
  return at::linear(mixed, proj_weight_.flatten(1), proj_bias_).transpose(1, 2).reshape(x.sizes()).add_(x);
}

at::Tensor FrameAttention::Forward(at::Tensor x, TimeCache&) const {
  return PerFrame(x, [this](const at::Tensor& frame) { return Frame(frame); });
}

Downsample::Downsample(VaeBuilder& builder, const std::string& name, std::int64_t channels, bool in_time)
    : weight_(builder.Add(name + ".resample.1.weight", {channels, channels, 3, 3})),
      bias_(builder.Add(name + ".resample.1.bias", {channels})) {
  if (!in_time) return;
  time_weight_ = builder.Add(name + ".time_conv.weight", {channels, channels, 3, 1, 1});
  time_bias_ = builder.Add(name + ".time_conv.bias", {channels});
  slot_ = builder.slots++;
}

at::Tensor Downsample::Forward(at::Tensor x, TimeCache& cache) const {
  x = PerFrame(x, [this](const at::Tensor& frame) {
    return at::conv2d(at::constant_pad_nd(frame, {0, 1, 0, 1}), weight_, bias_, 2);  // one zero at the right and at the bottom
  });
  if (!time_weight_.defined()) return x;
  // The first frame of a video stays as it is; then every second one, looking two back: windows start at the frame that the
  // last chunk ended with.
  at::Tensor& before = cache.At(slot_);
  const at::Tensor first = cache.first ? x.narrow(kTime, 0, 1) : at::Tensor();
  if (!cache.first) x = at::cat({before, x}, kTime);
  before = LastFrames(x, 1);
  if (x.size(kTime) == 1) return x;
  const at::Tensor y = at::conv3d(x, time_weight_, time_bias_, {2, 1, 1});
  return first.defined() ? at::cat({first, y}, kTime) : y;
}

Upsample::Upsample(VaeBuilder& builder, const std::string& name, std::int64_t in, std::int64_t out, bool in_time)
    : weight_(builder.Add(name + ".resample.1.weight", {out, in, 3, 3})), bias_(builder.Add(name + ".resample.1.bias", {out})) {
  if (in_time) time_conv_ = std::make_unique<CausalConv3d>(builder, name + ".time_conv", in, 2 * in, 3, 1);
}

at::Tensor Upsample::Forward(at::Tensor x, TimeCache& cache) const {
  if (time_conv_ != nullptr && !cache.first) {
    x = Interleave(time_conv_->Forward(std::move(x), cache));
  } else if (time_conv_ != nullptr && x.size(kTime) > 1) {  // the first frame of a video stays one, and is no history of the next
    const at::Tensor rest = x.narrow(kTime, 1, x.size(kTime) - 1);
    x = at::cat({x.narrow(kTime, 0, 1), Interleave(time_conv_->Forward(rest, cache))}, kTime);
  }
  return PerFrame(x, [this](const at::Tensor& frame) {
    const at::Tensor large = at::upsample_nearest2d(frame, {2 * frame.size(2), 2 * frame.size(3)});
    return at::conv2d(large, weight_, bias_, 1, 1);
  });
}

}  // namespace sgmd
