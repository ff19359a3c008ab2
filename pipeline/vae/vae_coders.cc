#include "pipeline/vae/vae_coders.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "common/error/error.h"

namespace sgmd {
namespace {

// Blocks, resampling, and around both a shortcut without parameters.
class ResidualStage : public VaeLayer {
 public:
  using Shortcut = std::function<at::Tensor(const at::Tensor&, bool first)>;
  ResidualStage(VaeLayers layers, Shortcut shortcut) : layers_(std::move(layers)), shortcut_(std::move(shortcut)) {}
  at::Tensor Forward(at::Tensor x, TimeCache& cache) const override {
    return ForwardAll(layers_, x, cache).add_(shortcut_(x, cache.first));
  }

 private:
  VaeLayers layers_;
  Shortcut shortcut_;
};

template <typename Layer, typename... Arguments>
void Append(VaeLayers& layers, VaeBuilder& builder, const std::string& name, Arguments... arguments) {
  layers.push_back(std::make_unique<Layer>(builder, name, arguments...));
}

void AppendMiddle(VaeLayers& layers, VaeBuilder& builder, const std::string& coder, std::int64_t channels) {
  Append<ResidualBlock>(layers, builder, coder + ".mid_block.resnets.0", channels, channels);
  Append<FrameAttention>(layers, builder, coder + ".mid_block.attentions.0", channels);
  Append<ResidualBlock>(layers, builder, coder + ".mid_block.resnets.1", channels, channels);
}

// Blocks and resampling are numbered in one row.
void AppendPlainDown(const VaeConfig& c, VaeBuilder& builder, VaeLayers& layers) {
  std::int64_t flat = 0, in = c.base_dim;
  double scale = 1;
  const auto name = [&] { return StrCat("encoder.down_blocks.", flat++); };
  for (std::int64_t stage = 0; stage < c.stages(); ++stage, scale /= 2) {
    const bool attends = std::count(c.attn_scales.begin(), c.attn_scales.end(), scale) > 0;
    const std::int64_t out = c.base_dim * c.dim_mult[stage];
    for (std::int64_t r = 0; r < c.num_res_blocks; ++r, in = out) {
      Append<ResidualBlock>(layers, builder, name(), in, out);
      if (attends) Append<FrameAttention>(layers, builder, name(), out);
    }
    if (stage + 1 < c.stages()) Append<Downsample>(layers, builder, name(), out, bool{c.temporal_downsample[stage]});
  }
}

void AppendResidualDown(const VaeConfig& c, VaeBuilder& builder, VaeLayers& layers) {
  std::int64_t in = c.base_dim;
  for (std::int64_t stage = 0; stage < c.stages(); ++stage) {
    const bool halves = stage + 1 < c.stages(), in_time = halves && c.temporal_downsample[stage];
    const std::int64_t out = c.base_dim * c.dim_mult[stage], time = in_time ? 2 : 1, space = halves ? 2 : 1;
    const std::string block = StrCat("encoder.down_blocks.", stage);
    if (in * time * space * space % out != 0) throw Error(StrCat(block, ": the shortcut cannot map ", in, " channels to ", out));
    VaeLayers inner;
    for (std::int64_t r = 0; r < c.num_res_blocks; ++r) {
      Append<ResidualBlock>(inner, builder, StrCat(block, ".resnets.", r), r == 0 ? in : out, out);
    }
    if (halves) Append<Downsample>(inner, builder, block + ".downsampler", out, in_time);
    layers.push_back(std::make_unique<ResidualStage>(
        std::move(inner), [=](const at::Tensor& x, bool) { return AverageDown(x, out, time, space); }));
    in = out;
  }
}

// Stages run from the last multiplier to the first.
void AppendUp(const VaeConfig& c, VaeBuilder& builder, VaeLayers& layers) {
  std::int64_t in = c.decoder_base_dim * c.dim_mult.back();
  for (std::int64_t stage = 0; stage < c.stages(); ++stage) {
    const std::int64_t back = c.stages() - 1 - stage, out = c.decoder_base_dim * c.dim_mult[back];
    const bool doubles = stage + 1 < c.stages(), in_time = doubles && c.temporal_downsample[back - 1];
    const std::string block = StrCat("decoder.up_blocks.", stage);
    VaeLayers inner;
    VaeLayers& into = c.is_residual ? inner : layers;
    for (std::int64_t r = 0; r <= c.num_res_blocks; ++r) {
      Append<ResidualBlock>(into, builder, StrCat(block, ".resnets.", r), r == 0 ? in : out, out);
    }
    const std::int64_t next = c.is_residual ? out : out / 2;  // the plain form halves the channels while it enlarges
    if (doubles) Append<Upsample>(into, builder, block + (c.is_residual ? ".upsampler" : ".upsamplers.0"), out, next, in_time);
    if (c.is_residual && doubles) {
      const std::int64_t time = in_time ? 2 : 1;
      if (out * time * 4 % in != 0) throw Error(StrCat(block, ": the shortcut cannot map ", in, " channels to ", out));
      layers.push_back(std::make_unique<ResidualStage>(
          std::move(inner), [=](const at::Tensor& x, bool first) { return DuplicateUp(x, out, time, 2, first); }));
    } else {
      for (auto& layer : inner) layers.push_back(std::move(layer));
    }
    in = next;
  }
}

}  // namespace

at::Tensor AverageDown(const at::Tensor& x, std::int64_t channels, std::int64_t time, std::int64_t space) {
  const at::Tensor padded = at::constant_pad_nd(x, {0, 0, 0, 0, (time - x.size(2) % time) % time, 0});
  const auto s = padded.sizes();
  return padded.reshape({s[0], s[1], s[2] / time, time, s[3] / space, space, s[4] / space, space})
      .permute({0, 1, 3, 5, 7, 2, 4, 6})
      .reshape({s[0], channels, -1, s[2] / time, s[3] / space, s[4] / space})
      .mean(2);
}

at::Tensor DuplicateUp(const at::Tensor& x, std::int64_t channels, std::int64_t time, std::int64_t space, bool first) {
  const auto s = x.sizes();
  const at::Tensor y = x.repeat_interleave(channels * time * space * space / s[1], 1)
                           .reshape({s[0], channels, time, space, space, s[2], s[3], s[4]})
                           .permute({0, 1, 5, 2, 6, 3, 7, 4})
                           .reshape({s[0], channels, s[2] * time, s[3] * space, s[4] * space});
  return first ? y.slice(2, time - 1) : y;
}

VaeCoder::VaeCoder(VaeLayers layers, VaeBuilder& builder, const std::string& name, std::int64_t channels, std::int64_t out)
    : layers_(std::move(layers)), norm_(builder, name + ".norm_out", channels), conv_out_(builder, name + ".conv_out", channels, out) {}

VaeCoder VaeCoder::Encoder(const VaeConfig& c, VaeBuilder& builder) {
  VaeLayers layers;
  Append<CausalConv3d>(layers, builder, "encoder.conv_in", c.in_channels, c.base_dim);
  c.is_residual ? AppendResidualDown(c, builder, layers) : AppendPlainDown(c, builder, layers);
  const std::int64_t channels = c.base_dim * c.dim_mult.back();
  AppendMiddle(layers, builder, "encoder", channels);
  return VaeCoder(std::move(layers), builder, "encoder", channels, 2 * c.z_dim);
}

VaeCoder VaeCoder::Decoder(const VaeConfig& c, VaeBuilder& builder) {
  VaeLayers layers;
  const std::int64_t channels = c.decoder_base_dim * c.dim_mult.back();
  Append<CausalConv3d>(layers, builder, "decoder.conv_in", c.z_dim, channels);
  AppendMiddle(layers, builder, "decoder", channels);
  AppendUp(c, builder, layers);
  return VaeCoder(std::move(layers), builder, "decoder", c.decoder_base_dim * c.dim_mult.front(), c.out_channels);
}

at::Tensor VaeCoder::Forward(at::Tensor x, TimeCache& cache) const {
  x = ForwardAll(layers_, std::move(x), cache);
  x = conv_out_.Forward(norm_.ThenSilu(x), cache);
  cache.first = false;
  return x;
}

}  // namespace sgmd
