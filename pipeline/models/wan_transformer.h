// The Wan video transformer (wan_facts §1): predicts the flow-matching velocity of a noised latent video.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <vector>

#include "pipeline/flow/velocity_model.h"
#include "pipeline/models/checkpointing.h"
#include "pipeline/models/lora.h"
#include "pipeline/models/wan_block.h"
#include "pipeline/models/wan_config.h"
#include "pipeline/models/wan_forward.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

/// What a model is kept and computed in (wan_facts §1.3 "Precision variants", the semantics of diffusers).
struct WanPrecision {
  at::ScalarType storage =
      at::kFloat;  // of the parameters, but float32 for IsFloat32Island (float64 for all with float64)
  at::ScalarType compute = at::kFloat;  // of Linears, attention and the residual stream

  Kernels kernels = Kernels::kFused;  // of norms, gates, rotations and GELU (pipeline/kernels)

  WanPrecision(at::ScalarType both = at::kFloat) : WanPrecision(both, both) {}  // NOLINT: one dtype reads as itself
  WanPrecision(at::ScalarType storage_type, at::ScalarType compute_type, Kernels kernels_type = Kernels::kFused)
      : storage(storage_type), compute(compute_type), kernels(kernels_type) {}
};

/// Whether a parameter stays in float32 where the others are kept in bfloat16: time embedding, modulations, norm3, and
/// the norms around the embedding of CLIP tokens.
bool IsFloat32Island(std::string_view name);

/// Parameters are named and shaped as in the original files (wan_facts §1.2). Movable; Clone() copies. Not for use by
/// several threads at once.
class WanTransformer : public VelocityModel {
 public:
  /// Zero parameters that do not require gradients.
  explicit WanTransformer(const WanConfig& config, at::Device device = at::kCPU, WanPrecision precision = {});
  WanTransformer(WanTransformer&&) = default;
  WanTransformer& operator=(WanTransformer&&) = default;

  /// From an original or a Diffusers model, sharded or not (FindModel says what `model` may be); weights of any
  /// floating dtype are converted. Goes through the files once: the memory needed is the model and its largest tensor.
  /// Throws Error naming every tensor that is missing, unexpected or misshapen, and on models that are not supported
  /// (WanConfig::FromFile).
  static WanTransformer Load(const std::filesystem::path& model, at::Device device, WanPrecision precision = {});

  /// Writes config.json and diffusion_pytorch_model.safetensors, original names, into an existing folder; of a model
  /// with adapters the base alone (MergeLora puts them in).
  void Save(const std::filesystem::path& folder, Metadata metadata = {}) const;

  /// Draws the from-scratch initialisation (end of wan_facts §1.3) from `seed`.
  void Initialise(std::uint64_t seed);

  WanTransformer Clone() const;

  /// A model that computes with the same parameters, sharing their storage, plus new adapters drawn from `seed`
  /// (pipeline/models/lora.h), which are all that is trained of it. At first it computes the same. Throws Error when a
  /// target matches no Linear, or on a model that has adapters.
  WanTransformer WithAdapters(const LoraConfig& lora, std::uint64_t seed) const;

  /// Of what is trained: the adapters if there are any, else the parameters.
  void SetRequiresGrad(bool requires_grad);

  /// Whether Forward keeps only the inputs of each block for the backward pass and runs the block again there: the same
  /// results, bit for bit, with the activations of one block in place of all, for one more forward pass.
  /// What self-attention gave may be kept beside them, and of the last blocks everything.
  void SetBlockCheckpointing(Recomputation recompute) { recompute_ = recompute; }
  /// Whether any block runs again.
  bool block_checkpointing() const { return recompute_.OfAnyBlock(config_.num_layers); }

  /// Velocity [B, out_dim, F, H, W] of latents `x` [B, out_dim, F, H, W] at `sigma` [B] in [0, 1] (timestep = 1000
  /// sigma) given text embeddings [B, text_len, text_dim], and of a model for image-to-video the first frame's latents
  /// [B, out_dim, F, H, W] and CLIP tokens [B, 257, image_dim], exactly where it takes them. F, H and W must be
  /// divisible by the patch size. TI2V-5B may be given latents [B, out_dim, 1, H, W]: they are in the place of the
  /// first frame of x, their tokens at time 0, and the velocity of that frame leads to them (LeadingTo). The result is
  /// in the dtype of the float32 islands. Differentiable in x and, where they require it, in what is trained.
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& sigma, const Conditioning& condition) const override;

  const WanConfig& config() const { return config_; }
  /// In the order of wan_facts §1.2. The tensors share storage with the model.
  const NamedTensors& parameters() const { return parameters_; }
  /// "<linear>.lora_down.weight" [r, in] and "<linear>.lora_up.weight" [out, r] in pairs, float32 (float64 in a float64
  /// model); empty without adapters.
  const NamedTensors& adapters() const { return adapters_; }
  const NamedTensors& trained() const { return adapters_.empty() ? parameters_ : adapters_; }
  std::vector<at::Tensor> ParameterTensors() const;
  std::int64_t ParameterCount() const;
  at::Device device() const;

 private:
  /// Takes its parameters from `source`, which is asked in the order of parameters().
  WanTransformer(const WanConfig& config, at::Device device, WanPrecision precision, const ParameterSource& source);

  at::ScalarType wide() const;  // dtype of the float32 islands and of results

  WanConfig config_;
  at::Device device_;
  WanPrecision precision_;
  NamedTensors parameters_, adapters_;
  LoraConfig lora_;
  WanStem stem_;
  std::vector<WanBlock> blocks_;
  WanHead head_;
  Recomputation recompute_;
  mutable RopeTables ropes_;
};

}  // namespace sgmd
