// The CLIP vision encoder of Wan2.1's image-to-video (ViT-H/14): a picture to the tokens that the model attends to.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "common/digest/digest.h"
#include "common/storage/sharded_safetensors.h"

namespace sgmd {

/// Keys of transformers' CLIPVisionConfig in config.json; the defaults are those of ViT-H/14.
struct ClipVisionConfig {
  std::int64_t hidden_size = 1280;  // D: the image_dim of the video model, divisible by the heads
  std::int64_t intermediate_size = 5120;
  std::int64_t num_hidden_layers = 32;  // at least 2: the last one is not run
  std::int64_t num_attention_heads = 16;
  std::int64_t image_size = 224;  // pixels of a side, a multiple of patch_size
  std::int64_t patch_size = 14;
  double layer_norm_eps = 1e-5;
  bool quick_gelu = false;  // hidden_act: x sigmoid(1.702 x) in place of the exact GELU

  /// 1 + (image_size / patch_size)^2: the class token, then the patches row by row.
  std::int64_t tokens() const { return 1 + (image_size / patch_size) * (image_size / patch_size); }

  /// Throws Error naming file and key on a missing or impossible size, another model_type than clip_vision_model, or an
  /// activation that is neither "gelu" nor "quick_gelu".
  static ClipVisionConfig FromFile(const std::filesystem::path& path);
};

/// Computes in float32 whatever the weights are stored in. On the CPU the weights stay in the mapped file and one layer
/// at a time is copied to float32 (ViT-H/14: 79 MB); elsewhere each pass takes them to the device so.
class ClipVision {
 public:
  /// `path`: the image_encoder/ of a -Diffusers repository, or that repository's root. Float32, bfloat16 or float16;
  /// the text tower and projections of a whole CLIP are ignored. Throws Error when there is no encoder, and on anything
  /// missing or misshapen.
  static ClipVision Load(const std::filesystem::path& path, at::Device device);

  /// What Wan is given of `picture`, uint8 RGB [H, W, 3]: of its middle square, resized by Pillow's bicubic filter to
  /// image_size and normalised by CLIP's mean and deviation, the hidden states before the last layer. Float32 CPU
  /// [tokens, hidden_size]. As diffusers' WanImageToVideoPipeline.encode_image with CLIPImageProcessor as published.
  at::Tensor Encode(const at::Tensor& picture) const;
  /// The same of `pixels` [B, 3, image_size, image_size] float32, normalised: [B, tokens, hidden_size].
  at::Tensor HiddenStates(const at::Tensor& pixels) const;

  /// Identity of config and weights, for any sharding. Reads all weights.
  Digest digest() const;

  const ClipVisionConfig& config() const { return config_; }

 private:
  ClipVision(ClipVisionConfig config, ShardedSafetensors file, at::Device device);
  const TensorView& View(const std::string& name) const;
  at::Tensor Weight(const std::string& name) const;  // float32 on the device
  at::Tensor Linear(const std::string& name, const at::Tensor& x) const;
  at::Tensor Norm(const std::string& name, const at::Tensor& x) const;
  at::Tensor Embed(const at::Tensor& pixels) const;
  at::Tensor RunLayer(std::int64_t number, const at::Tensor& h) const;

  ClipVisionConfig config_;
  ShardedSafetensors file_;
  at::Device device_;
};

/// Pixels [1, 3, H, W] float32 of `picture` uint8 [H, W, 3], normalised by CLIP's mean and deviation.
at::Tensor ClipPixels(const at::Tensor& picture);

}  // namespace sgmd
