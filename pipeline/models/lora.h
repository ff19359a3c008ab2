// Low-rank adapters (LoRA) of the Linears of the blocks: y = W x + b + (alpha / r) up (down x), wan_facts §5 and §6.
//
// Adapters come in pairs of float32 tensors, "blocks.N.self_attn.q.lora_down.weight" [r, in] and ".lora_up.weight"
// [out, r], under these names in models, checkpoints and (with the prefix "diffusion_model.") in files for other tools.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/experiment.h"
#include "common/storage/sharded_safetensors.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

class WanTransformer;

struct LoraConfig {
  std::int64_t rank = 0;                                                   // r; 0: no adapters
  double alpha = 0;                                                        // > 0
  std::vector<std::string> targets{"q", "k", "v", "o", "ffn.0", "ffn.2"};  // ends of the names of Linears in blocks

  double Scale() const { return alpha / static_cast<double>(rank); }
  /// Whether a block's Linear, such as "cross_attn.q", is a target or ends in "." and one.
  bool Adapts(std::string_view linear) const;
};

/// The experiment's [lora].
LoraConfig LoraOf(const Experiment& experiment);

inline constexpr char kLoraDown[] = ".lora_down.weight";
inline constexpr char kLoraUp[] = ".lora_up.weight";

/// down ~ N(0, 1/r) with standard deviation 1/r (what peft calls gaussian), up = 0, so that nothing changes at first. A
/// pure function of `seed` and the order of the tensors. On the meta device nothing is drawn.
void DrawAdapters(const NamedTensors& adapters, std::uint64_t seed);

struct LoraPair {
  at::Tensor down, up;  // [r, in], [out, r]
};

/// By the Linear they adapt, such as "blocks.0.ffn.2". Throws Error on what is no adapter, an odd pair, or shapes that
/// do not fit each other.
std::map<std::string, LoraPair> LoraPairs(const NamedTensors& adapters);

/// Throws Error naming a pair that `parameters`, those of a model, have no place for.
void RequirePlaces(const std::map<std::string, LoraPair>& pairs, const NamedTensors& parameters);

/// weight + scale * up down on the weight's device, in float32 (float64 for a weight of float64).
at::Tensor MergedWeight(const at::Tensor& weight, const LoraPair& pair, double scale);

/// Adds scale * up down to the weights of `model`, a model without adapters of its own, in float32; UnmergeLora takes
/// it away again, within float32 rounding. Throws Error naming an adapter that the model has no place for.
void MergeLora(WanTransformer& model, const NamedTensors& adapters, double scale);
void UnmergeLora(WanTransformer& model, const NamedTensors& adapters, double scale);

/// The adapters in a file of ours, such as generator.ema.safetensors of a LoRA run's checkpoint; what is no adapter is
/// left out. Throws Error when there is none.
NamedTensors ReadAdapters(const ShardedSafetensors& file);

/// What WriteLora writes.
NamedTensors LoraTensors(const NamedTensors& adapters, double scale, at::ScalarType dtype);

/// A file that ComfyUI, LightX2V and diffusers read (wan_facts §6 "LoRA keys"):
/// "diffusion_model.<linear>.lora_down.weight" and
/// ".lora_up.weight", the scale folded into up. float32, or `dtype`.
void WriteLora(const std::filesystem::path& path, const NamedTensors& adapters, double scale, Metadata metadata = {},
               at::ScalarType dtype = at::kFloat);

/// The adapters of such a file, also with ".alpha" beside the pairs or without the prefix; scale 1 (alpha / r is folded
/// into up). Throws Error on a key of another style, an odd pair or shapes that do not fit each other.
NamedTensors ReadLora(const std::filesystem::path& path);

}  // namespace sgmd
