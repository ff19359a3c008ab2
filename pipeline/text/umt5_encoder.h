// The umT5 text encoder (wan_facts §2): token ids to the rows that a Wan model attends to.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/digest/digest.h"
#include "common/storage/sharded_safetensors.h"
#include "pipeline/text/umt5_config.h"

namespace sgmd {

/// Computes in float32 whatever the weights are stored in. On the CPU the weights stay in the mapped file and one layer at a
/// time is copied to float32, so that memory is the file plus a layer (umT5-XXL in bfloat16: 11.4 GB, of which the kernel may
/// drop what it likes, plus 0.8 GB). On CUDA they lie on the device in the file's dtype, the embedding table stays in the file.
class Umt5Encoder {
 public:
  using Progress = std::function<void(std::int64_t done, std::int64_t total)>;

  /// `path`: the text_encoder/ of a `-Diffusers` repository, that repository's root, or a safetensors file or index. Names of
  /// both tables of wan_facts §2, float32, bfloat16 or float16. Sizes come from the config.json beside the weights; without
  /// one they are umT5-XXL's. Decoder tensors are ignored. Throws Error on anything missing, unexpected or misshapen, and on
  /// `.pth` files, which are not read.
  static Umt5Encoder Load(const std::filesystem::path& path, at::Device device);

  /// Float32 CPU [ids.size(), d_model]. `ids` are the real tokens with EOS: padding is masked in the reference and positions
  /// are relative, so its rows are these. Throws Error on no ids or one outside [0, vocab_size).
  at::Tensor Encode(const std::vector<std::int64_t>& ids) const;
  /// The same for several prompts, layer by layer, so that each layer is read and converted once. Every result is bitwise that
  /// of Encode. `progress` counts layers times tokens.
  std::vector<at::Tensor> EncodeAll(const std::vector<std::vector<std::int64_t>>& prompts, const Progress& progress = {}) const;

  /// Identity of config and weights: the same for both naming tables and for any sharding. Reads all weights when it is first
  /// asked (`progress` in bytes).
  Digest digest(const Progress& progress = {}) const;

  const Umt5Config& config() const { return config_; }
  at::Device device() const { return device_; }

 private:
  struct Layer {
    at::Tensor norm1, q, k, v, o, bias_table, norm2, wi_0, wi_1, wo;  // float32 on the device
  };
  Umt5Encoder(Umt5Config config, ShardedSafetensors file, at::Device device);
  const TensorView& View(const std::string& name) const;  // by its transformers name, whatever the file calls it
  at::Tensor Weight(const std::string& name) const;       // float32 on the device
  Layer ReadLayer(std::int64_t n) const;
  at::Tensor Embed(const std::vector<std::int64_t>& ids) const;
  at::Tensor Attend(const Layer& layer, const at::Tensor& h, const at::Tensor& buckets) const;
  at::Tensor RunLayer(const Layer& layer, at::Tensor h, const at::Tensor& buckets) const;

  Umt5Config config_;
  ShardedSafetensors file_;
  at::Device device_;
  std::map<std::string, at::Tensor> on_device_;  // CUDA only; in the file's dtype
  mutable std::optional<Digest> digest_;
};

/// Bucket of the position bias for `relative` = key position - query position (wan_facts §2 "Bucket"), in [0, buckets).
/// Half of the buckets are for keys to the right; of each half, half are exact distances and the others grow logarithmically.
std::int64_t RelativePositionBucket(std::int64_t relative, std::int64_t buckets, std::int64_t max_distance);

}  // namespace sgmd
