// Low-rank adapters (LoRA) of the Linears of the blocks: y = W x + b + (alpha / r) up (down x), wan_facts §5 and §6.
//
// Adapters come in pairs of float32 tensors, "blocks.N.self_attn.q.lora_down.weight" [r, in] and ".lora_up.weight" [out, r],
// under these names in models, checkpoints and (with the prefix "diffusion_model.") in files for other tools.
#pragma once

#include <cstdint>
#include <filesystem>

#include "pipeline/models/tensor_bytes.h"

namespace sgmd {

class WanTransformer;

inline constexpr char kLoraDown[] = ".lora_down.weight";
inline constexpr char kLoraUp[] = ".lora_up.weight";

/// down ~ N(0, 1/r) with standard deviation 1/r (what peft calls gaussian), up = 0, so that nothing changes at first. A pure
/// function of `seed` and the order of the tensors. On the meta device nothing is drawn.
void DrawAdapters(const NamedTensors& adapters, std::uint64_t seed);

/// Adds scale * up down to the weights of `model`, a model without adapters of its own, in float32; UnmergeLora takes it away
/// again, within float32 rounding. Throws Error naming an adapter that the model has no place for.
void MergeLora(WanTransformer& model, const NamedTensors& adapters, double scale);
void UnmergeLora(WanTransformer& model, const NamedTensors& adapters, double scale);

/// The adapters in a file of ours, such as generator.ema.safetensors of a LoRA run's checkpoint; what is no adapter is left out.
/// Throws Error when there is none.
NamedTensors ReadAdapters(const SafetensorsFile& file);

/// A file that ComfyUI, LightX2V and diffusers read (wan_facts §6 "LoRA keys"): "diffusion_model.<linear>.lora_down.weight" and
/// ".lora_up.weight", the scale folded into up. float32, or `dtype`.
void WriteLora(const std::filesystem::path& path, const NamedTensors& adapters, double scale, Metadata metadata = {},
               at::ScalarType dtype = at::kFloat);

/// The adapters of such a file, also with ".alpha" beside the pairs or without the prefix; scale 1 (alpha / r is folded into up).
/// Throws Error on a key of another style, an odd pair or shapes that do not fit each other.
NamedTensors ReadLora(const std::filesystem::path& path);

}  // namespace sgmd
