// Parts of the Wan VAEs (wan_facts §3.1). Activations are float32 [B, C, T, H, W]; a chunk of a video goes through
// every part in turn, and what a part needs of earlier chunks lies in a TimeCache. One chunk with all frames is the
// same function.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

/// What one pass along one video keeps between chunks. A new one starts a new video; the parts fill it.
struct TimeCache {
  std::vector<at::Tensor>
      frames;         // by slot: the last input frames of a convolution in time; undefined before its first
  bool first = true;  // no chunk has gone through yet
  at::Tensor& At(std::size_t slot);
};

/// Collects the parameters of a model while its parts are made, under Diffusers names, and numbers the cache slots.
struct VaeBuilder {
  at::TensorOptions options;
  NamedTensors parameters;  // not initialised
  std::size_t slots = 0;
  at::Tensor Add(const std::string& name, at::IntArrayRef shape);
};

/// A step of the encoder or decoder. Consumes its input: pass std::move(x) to free it as early as can be.
class VaeLayer {
 public:
  virtual ~VaeLayer() = default;
  virtual at::Tensor Forward(at::Tensor x, TimeCache& cache) const = 0;
};
using VaeLayers = std::vector<std::unique_ptr<VaeLayer>>;
at::Tensor ForwardAll(const VaeLayers& layers, at::Tensor x, TimeCache& cache);

/// Kernel (3, space, space) or (1, 1, 1), stride 1. Frame t sees frames t-2, t-1, t; before the first there are zeros.
class CausalConv3d : public VaeLayer {
 public:
  CausalConv3d(VaeBuilder& builder, const std::string& name, std::int64_t in, std::int64_t out, std::int64_t time = 3,
               std::int64_t space = 3);
  at::Tensor Forward(at::Tensor x, TimeCache& cache) const override;

 private:
  at::Tensor weight_, bias_;
  std::int64_t history_, padding_;  // frames before, pixels around
  std::size_t slot_ = 0;
};

/// x / max(|x| over channels, 1e-12) sqrt(C) gamma, a new tensor. `images`: gamma is [C, 1, 1] for [B, C, H, W].
class VaeRmsNorm {
 public:
  VaeRmsNorm(VaeBuilder& builder, const std::string& name, std::int64_t channels, bool images = false);
  at::Tensor operator()(const at::Tensor& x) const;
  at::Tensor ThenSilu(const at::Tensor& x) const;

 private:
  at::Tensor gamma_;
  double scale_;
};

/// conv(silu(norm(conv(silu(norm(x)))))) + x, or + a 1x1x1 convolution of x where the channels change.
class ResidualBlock : public VaeLayer {
 public:
  ResidualBlock(VaeBuilder& builder, const std::string& name, std::int64_t in, std::int64_t out);
  at::Tensor Forward(at::Tensor x, TimeCache& cache) const override;

 private:
  VaeRmsNorm norm1_;
  CausalConv3d conv1_;
  VaeRmsNorm norm2_;
  CausalConv3d conv2_;
  std::unique_ptr<CausalConv3d> shortcut_;
};

/// Self-attention with one head over the pixels of each frame, + x.
class FrameAttention : public VaeLayer {
 public:
  FrameAttention(VaeBuilder& builder, const std::string& name, std::int64_t channels);
  at::Tensor Forward(at::Tensor x, TimeCache& cache) const override;

 private:
  at::Tensor Frame(const at::Tensor& x) const;  // [B, C, H, W]
  std::int64_t channels_;
  VaeRmsNorm norm_;
  at::Tensor qkv_weight_, qkv_bias_, proj_weight_, proj_bias_;
};

/// Halves height and width, and with `in_time` the frames after the first of the video.
class Downsample : public VaeLayer {
 public:
  Downsample(VaeBuilder& builder, const std::string& name, std::int64_t channels, bool in_time);
  at::Tensor Forward(at::Tensor x, TimeCache& cache) const override;

 private:
  at::Tensor weight_, bias_, time_weight_, time_bias_;
  std::size_t slot_ = 0;
};

/// Doubles height and width, and with `in_time` the frames after the first of the video. Channels `in` -> `out`.
class Upsample : public VaeLayer {
 public:
  Upsample(VaeBuilder& builder, const std::string& name, std::int64_t in, std::int64_t out, bool in_time);
  at::Tensor Forward(at::Tensor x, TimeCache& cache) const override;

 private:
  at::Tensor weight_, bias_;
  std::unique_ptr<CausalConv3d> time_conv_;
};

}  // namespace sgmd
