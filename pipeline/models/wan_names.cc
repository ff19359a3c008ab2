#include "pipeline/models/wan_names.h"

#include <span>

#include "common/error/error.h"

namespace sgmd {
namespace {

// Modules with tensors, without ".weight" and ".bias". Whole names are matched, so that no rule can take another's
// tensor: the block's scale_shift_table is not the root's, and the norm2 of Diffusers is the original norm3 (the
// original norm2 has no tensors).
struct Rule {
  std::string_view original, diffusers;
};

constexpr Rule kRoot[] = {
    {"patch_embedding", "patch_embedding"},
    {"text_embedding.0", "condition_embedder.text_embedder.linear_1"},
    {"text_embedding.2", "condition_embedder.text_embedder.linear_2"},
    {"time_embedding.0", "condition_embedder.time_embedder.linear_1"},
    {"time_embedding.2", "condition_embedder.time_embedder.linear_2"},
    {"time_projection.1", "condition_embedder.time_proj"},
    {"img_emb.proj.0", "condition_embedder.image_embedder.norm1"},
    {"img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"},
    {"img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"},
    {"img_emb.proj.4", "condition_embedder.image_embedder.norm2"},
    {"head.modulation", "scale_shift_table"},
    {"head.head", "proj_out"},
};

constexpr Rule kBlock[] = {
    {"modulation", "scale_shift_table"},
    {"self_attn.q", "attn1.to_q"},
    {"self_attn.k", "attn1.to_k"},
    {"self_attn.v", "attn1.to_v"},
    {"self_attn.o", "attn1.to_out.0"},
    {"self_attn.norm_q", "attn1.norm_q"},
    {"self_attn.norm_k", "attn1.norm_k"},
    {"cross_attn.q", "attn2.to_q"},
    {"cross_attn.k", "attn2.to_k"},
    {"cross_attn.v", "attn2.to_v"},
    {"cross_attn.o", "attn2.to_out.0"},
    {"cross_attn.norm_q", "attn2.norm_q"},
    {"cross_attn.norm_k", "attn2.norm_k"},
    {"cross_attn.k_img", "attn2.add_k_proj"},
    {"cross_attn.v_img", "attn2.add_v_proj"},
    {"cross_attn.norm_k_img", "attn2.norm_added_k"},
    {"norm3", "norm2"},
    {"ffn.0", "ffn.net.0.proj"},
    {"ffn.2", "ffn.net.2"},
};

constexpr std::string_view kBlocks = "blocks.";

using Side = std::string_view Rule::*;

// The length of "blocks.<number>." at the beginning of `name`, or 0.
std::size_t BlockPrefix(std::string_view name) {
  if (!name.starts_with(kBlocks)) return 0;
  std::size_t end = kBlocks.size();
  while (end < name.size() && name[end] >= '0' && name[end] <= '9') ++end;
  return end > kBlocks.size() && end < name.size() && name[end] == '.' ? end + 1 : 0;
}

std::optional<std::string> Translate(std::string_view name, Side from, Side to) {
  const std::size_t prefix = BlockPrefix(name);
  const std::string_view inner = name.substr(prefix);
  for (const Rule& rule : prefix > 0 ? std::span<const Rule>(kBlock) : std::span<const Rule>(kRoot)) {
    const std::string_view module = rule.*from;
    if (!inner.starts_with(module)) continue;
    const std::string_view rest = inner.substr(module.size());
    if (rest.empty() || rest.front() == '.') return StrCat(name.substr(0, prefix), rule.*to, rest);
  }
  return {};
}

std::string Required(std::optional<std::string> translated, std::string_view name, const char* naming) {
  if (translated) return *std::move(translated);
  throw Error(StrCat("\"", name, "\" is not a tensor of a Wan transformer under its ", naming, " names"));
}

}  // namespace

std::optional<std::string> FindDiffusersName(std::string_view original) {
  return Translate(original, &Rule::original, &Rule::diffusers);
}

std::optional<std::string> FindOriginalName(std::string_view diffusers) {
  return Translate(diffusers, &Rule::diffusers, &Rule::original);
}

std::string DiffusersName(std::string_view original) {
  return Required(FindDiffusersName(original), original, "original");
}

std::string OriginalName(std::string_view diffusers) {
  return Required(FindOriginalName(diffusers), diffusers, "Diffusers");
}

std::string_view WithoutModelPrefix(std::string_view name) {
  for (const std::string_view prefix : {"model.diffusion_model.", "diffusion_model."}) {
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  }
  return name;
}

}  // namespace sgmd
