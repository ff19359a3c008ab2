// Where a model's config.json and weights lie: original folders, Diffusers folders and single files (wan_facts §6).
#pragma once

#include <filesystem>
#include <vector>

namespace sgmd {

struct ModelFiles {
  std::filesystem::path config;   // config.json
  std::filesystem::path weights;  // a .safetensors file, or the index of its shards: for ShardedSafetensors::Open
  /// What ModelDigest covers, by name: config.json and every *.safetensors and index of the folder, prompt_bank.safetensors
  /// excepted; of a model given by its file, config.json and that file.
  std::vector<std::filesystem::path> identity;
};

/// `model` is one of
///   a folder with config.json and weights: an original repository, or the transformer/ of a Diffusers one;
///   a Diffusers pipeline folder (its transformer/ is taken);
///   a .safetensors file, or an index of shards, with config.json beside it.
/// Of several files in a folder diffusion_pytorch_model.safetensors (or its index) is meant, else the only one that is not a
/// prompt bank. Throws Error on anything missing or ambiguous, on weights that are only there as pickles (.pth, .bin, .ckpt,
/// .pt), and on Wan2.2-A14B, which is two models.
ModelFiles FindModel(const std::filesystem::path& model);

/// config.json alone, for what is asked before the weights are there. Throws Error as above.
std::filesystem::path FindModelConfig(const std::filesystem::path& model);

}  // namespace sgmd
