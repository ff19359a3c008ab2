// Sizes of a umT5 encoder (wan_facts §2), read from the config.json of a text_encoder/ folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace sgmd {

/// Keys of UMT5Config in config.json; the defaults are umT5-XXL, the encoder of every Wan model.
struct Umt5Config {
  std::int64_t vocab_size = 256384;
  std::int64_t d_model = 4096;  // width of an output row: the text_dim of the video model
  std::int64_t d_kv = 64;       // width of a head; num_heads * d_kv need not be d_model
  std::int64_t d_ff = 10240;
  std::int64_t num_layers = 24;
  std::int64_t num_heads = 64;
  std::int64_t relative_attention_num_buckets = 32;    // divisible by 4
  std::int64_t relative_attention_max_distance = 128;  // over a quarter of the buckets
  double layer_norm_epsilon = 1e-6;

  std::int64_t inner_dim() const { return num_heads * d_kv; }

  /// Throws Error naming file and key on a missing size, an impossible one, a model_type other than umt5, or a feed-forward
  /// layer that is not "gated-gelu".
  static Umt5Config FromFile(const std::filesystem::path& path);
  /// Throws Error unless sizes are positive and the buckets divide as they must.
  void Validate(const std::string& where) const;
};

}  // namespace sgmd
