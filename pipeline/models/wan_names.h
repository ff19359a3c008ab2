// Tensor names of Wan transformers: those of the original files and those of Diffusers (wan_facts §1.2). No LibTorch.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sgmd {

/// "blocks.3.self_attn.q.weight" -> "blocks.3.attn1.to_q.weight". What follows the module's name is kept, so that names
/// of adapters ("blocks.3.self_attn.q.lora_down.weight") and of modules alone translate too. Throws Error with the name
/// of anything that a transformer for text- or image-to-video does not have.
std::string DiffusersName(std::string_view original);
/// The other way round, by the same table.
std::string OriginalName(std::string_view diffusers);

/// As above; empty for a name that is not in the table.
std::optional<std::string> FindDiffusersName(std::string_view original);
std::optional<std::string> FindOriginalName(std::string_view diffusers);

/// Without the "model.diffusion_model." or "diffusion_model." that single files for other tools put in front.
std::string_view WithoutModelPrefix(std::string_view name);

}  // namespace sgmd
