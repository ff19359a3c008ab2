// Where a umT5 encoder lies on disk and what its tensors are called there (wan_facts §2, §6). No LibTorch.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/storage/sharded_safetensors.h"
#include "pipeline/text/umt5_config.h"

namespace sgmd {

struct Umt5Tensor {
  std::string name;  // as transformers names it
  std::vector<std::int64_t> shape;
};

inline constexpr char kUmt5Embedding[] = "shared.weight";

/// Every tensor of an encoder, in a fixed order.
std::vector<Umt5Tensor> Umt5Tensors(const Umt5Config& config);

/// The name in Wan's own file: "encoder.block.3.layer.1.DenseReluDense.wi_0.weight" -> "blocks.3.ffn.gate.0.weight".
/// Throws Error on a name that is none of Umt5Tensors.
std::string Umt5WanName(const std::string& name);

/// The tensor that transformers calls `name`, under any of its names; null when absent.
const TensorView* FindUmt5Tensor(const ShardedSafetensors& file, const std::string& name);

/// Throws Error naming each missing, unexpected, misshapen and not floating tensor. Those of the decoder are ignored.
void CheckUmt5Tensors(const Umt5Config& config, const ShardedSafetensors& file);

struct Umt5Files {
  std::filesystem::path weights;  // for ShardedSafetensors::Open
  Umt5Config config;
};

/// `path`: a text_encoder/ folder, a folder that has one (a Diffusers repository), a safetensors file or an index. A file
/// without a umT5 config.json beside it is umT5-XXL. Throws Error when there is no encoder, saying what to do about `.pth`.
Umt5Files FindUmt5Files(const std::filesystem::path& path);

}  // namespace sgmd
