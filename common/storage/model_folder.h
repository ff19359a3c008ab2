// Where a model's config.json and weights lie: original folders, Diffusers folders and single files (wan_facts §6).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sgmd {

struct ModelFiles {
  std::filesystem::path config;   // config.json
  std::filesystem::path weights;  // a .safetensors file, or the index of its shards: for ShardedSafetensors::Open
  /// What ModelDigest covers, by name: config.json and every *.safetensors and index of the folder,
  /// prompt_bank.safetensors excepted; of a model given by its file, config.json and that file.
  std::vector<std::filesystem::path> identity;
};

/// `model` is one of
///   a folder with config.json and weights: an original repository, or the transformer/ of a Diffusers one;
///   a Diffusers pipeline folder (its transformer/ is taken);
///   a .safetensors file, or an index of shards, with config.json beside it.
/// Of several files in a folder diffusion_pytorch_model.safetensors (or its index) is meant, else the only one that is
/// not a prompt bank. Throws Error on anything missing or ambiguous, on weights that are only there as pickles (.pth,
/// .bin, .ckpt, .pt), and on a folder of two experts.
ModelFiles FindModel(const std::filesystem::path& model);

/// config.json alone, for what is asked before the weights are there. Throws Error as above.
std::filesystem::path FindModelConfig(const std::filesystem::path& model);

/// A transformer of a model and the noise levels that it is for (wan_facts §1.1: Wan2.2-A14B has two).
struct Expert {
  std::string name;             // of two: kHighNoiseExpert, kLowNoiseExpert; else empty
  std::filesystem::path model;  // for FindModel
  double min_sigma = 0;         // it takes sigmas >= this that no expert before it takes
};
/// Whether `sigma` is at or above `min_sigma`: in float32, in which noise levels travel.
constexpr bool IsFrom(double min_sigma, double sigma) {
  return static_cast<float>(sigma) >= static_cast<float>(min_sigma);
}
/// Names of the experts: of their folders in original repositories, and before the names of their tensors in
/// checkpoints.
inline constexpr char kHighNoiseExpert[] = "high_noise_model", kLowNoiseExpert[] = "low_noise_model";
/// "high_noise_model." before the names of its tensors; empty of a model's only transformer.
inline std::string PrefixOf(const Expert& expert) { return expert.name.empty() ? "" : expert.name + "."; }

/// The transformers of a model by falling min_sigma, which is 0 of the last. `model` as for FindModel, or a folder of
/// two experts: an original one (high_noise_model/, low_noise_model/; boundary 0.875, and 0.9 of image-to-video) or a
/// Diffusers pipeline (transformer/, transformer_2/, boundary_ratio in model_index.json). Throws Error as
/// FindModelConfig does for each, on one expert without the other, on one whose folder lies beside the other's, and
/// without a boundary.
std::vector<Expert> FindExperts(const std::filesystem::path& model);

}  // namespace sgmd
