// The Wan video transformer (wan_facts §1): predicts the flow-matching velocity of a noised latent video.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <vector>

#include "pipeline/models/tensor_bytes.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

/// Parameters are named and shaped as in the original files (wan_facts §1.2). Movable; Clone() copies. Not for use by
/// several threads at once. One floating
/// dtype for all parameters: float32, or float64 in gradient checks.
class WanTransformer {
 public:
  /// Zero parameters that do not require gradients.
  explicit WanTransformer(const WanConfig& config, at::Device device = at::kCPU, at::ScalarType dtype = at::kFloat);
  WanTransformer(WanTransformer&&) = default;
  WanTransformer& operator=(WanTransformer&&) = default;

  /// From an original or a Diffusers model, sharded or not (FindModel says what `model` may be); weights of any floating
  /// dtype are converted. Goes through the files once: the memory needed is the model and its largest tensor. Throws Error
  /// naming every tensor that is missing, unexpected or misshapen, and on models that are not supported (WanConfig::FromFile).
  static WanTransformer Load(const std::filesystem::path& model, at::Device device);

  /// Writes config.json and diffusion_pytorch_model.safetensors, original names, into an existing folder.
  void Save(const std::filesystem::path& folder, Metadata metadata = {}) const;

  /// Draws the from-scratch initialisation (end of wan_facts §1.3) from `seed`.
  void Initialise(std::uint64_t seed);

  WanTransformer Clone() const;
  void SetRequiresGrad(bool requires_grad);

  /// Velocity [B, out_dim, F, H, W] of latents `x` [B, in_dim, F, H, W] at `sigma` [B] in [0, 1] (timestep = 1000 sigma)
  /// given text embeddings `context` [B, text_len, text_dim]. F, H, W divisible by the patch size.
  /// Differentiable in x and, where they require it, in the parameters.
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& context) const;

  const WanConfig& config() const { return config_; }
  /// In the order of wan_facts §1.2. The tensors share storage with the model.
  const NamedTensors& parameters() const { return parameters_; }
  std::vector<at::Tensor> ParameterTensors() const;
  std::int64_t ParameterCount() const;
  at::Device device() const;

 private:
  struct Linear {
    at::Tensor weight, bias;
    at::Tensor operator()(const at::Tensor& x) const;
  };
  struct Attention {
    Linear q, k, v, o;
    at::Tensor norm_q, norm_k;
  };
  struct Block {
    at::Tensor modulation;  // [1, 6, D]
    Attention self_attn, cross_attn;
    at::Tensor norm3_weight, norm3_bias;
    Linear ffn_in, ffn_out;
  };

  at::Tensor Add(const std::string& name, at::IntArrayRef shape);
  Linear AddLinear(const std::string& name, std::int64_t in, std::int64_t out);
  Attention AddAttention(const std::string& name);
  Block AddBlock(const std::string& name);

  at::Tensor EmbedPatches(const at::Tensor& x) const;      // [B, C, F, H, W] -> [B, N, D]
  at::Tensor Unpatchify(const at::Tensor& tokens, at::IntArrayRef grid) const;
  at::Tensor Norm(const at::Tensor& x) const;              // layer norm without parameters
  at::Tensor Attend(const Attention& a, const at::Tensor& x, const at::Tensor& context, const at::Tensor& rope) const;
  at::Tensor RunBlock(const Block& block, at::Tensor x, const at::Tensor& e0, const at::Tensor& text,
                      const at::Tensor& rope) const;

  WanConfig config_;
  at::TensorOptions options_;
  NamedTensors parameters_;
  at::Tensor patch_weight_, patch_bias_, head_modulation_;
  Linear text_in_, text_out_, time_in_, time_out_, time_projection_, head_;
  std::vector<Block> blocks_;
  mutable std::map<std::array<std::int64_t, 3>, at::Tensor> rope_;  // by grid; made on first use
};

/// cos(t w) || sin(t w), w_j = 10000^(-j / (dim/2)); computed in float64, returned as float64 [B, dim]. `timestep` [B].
at::Tensor TimestepSinusoid(const at::Tensor& timestep, std::int64_t dim);

/// Rotations e^{i p w} for the tokens of a (frames, height, width) grid, complex128 [N, head_dim/2], N = f h w with w
/// fastest. Of c = head_dim/2 pairs, c - 2 floor(c/3) turn with the frame, floor(c/3) with the row, floor(c/3) with the column.
at::Tensor RopeTable(at::IntArrayRef grid, std::int64_t head_dim);

/// Rotates interleaved pairs (x[2j], x[2j+1]) of `x` [B, N, H, head_dim] by `table` [N, head_dim/2].
at::Tensor ApplyRope(const at::Tensor& x, const at::Tensor& table);

}  // namespace sgmd
