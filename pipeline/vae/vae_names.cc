#include "pipeline/vae/vae_names.h"

#include <algorithm>

#include "common/error/error.h"

namespace sgmd {

VaeNames::VaeNames(const VaeConfig& config) {
  Add("conv1", "quant_conv");
  Add("conv2", "post_quant_conv");
  for (const std::string coder : {"encoder.", "decoder."}) {
    Add(coder + "conv1", coder + "conv_in");
    Add(coder + "head.0", coder + "norm_out");
    Add(coder + "head.2", coder + "conv_out");
    AddResidualBlock(coder + "middle.0", coder + "mid_block.resnets.0");
    AddAttention(coder + "middle.1", coder + "mid_block.attentions.0");
    AddResidualBlock(coder + "middle.2", coder + "mid_block.resnets.1");
  }
  config.is_residual ? AddResidualStages(config) : AddPlainStages(config);
}

void VaeNames::Add(const std::string& original, const std::string& diffusers) {
  to_diffusers_[original] = diffusers;
  to_original_[diffusers] = original;
}

void VaeNames::AddResidualBlock(const std::string& original, const std::string& diffusers) {
  Add(original + ".residual.0", diffusers + ".norm1");
  Add(original + ".residual.2", diffusers + ".conv1");
  Add(original + ".residual.3", diffusers + ".norm2");
  Add(original + ".residual.6", diffusers + ".conv2");
  Add(original + ".shortcut", diffusers + ".conv_shortcut");
}

void VaeNames::AddAttention(const std::string& original, const std::string& diffusers) {
  for (const char* part : {".norm", ".to_qkv", ".proj"}) Add(original + part, diffusers + part);
}

void VaeNames::AddResample(const std::string& original, const std::string& diffusers) {
  for (const char* part : {".resample.1", ".time_conv"}) Add(original + part, diffusers + part);
}

// 2.1: the original numbers blocks and resampling flat; Diffusers keeps that in the encoder and nests in the decoder.
void VaeNames::AddPlainStages(const VaeConfig& config) {
  std::int64_t flat = 0;
  double scale = 1;
  const auto place = [&] { return std::pair{StrCat("encoder.downsamples.", flat), StrCat("encoder.down_blocks.", flat)}; };
  for (std::int64_t stage = 0; stage < config.stages(); ++stage, scale /= 2) {
    const bool attends = std::count(config.attn_scales.begin(), config.attn_scales.end(), scale) > 0;
    for (std::int64_t r = 0; r < config.num_res_blocks; ++r) {
      AddResidualBlock(place().first, place().second);
      ++flat;
      if (!attends) continue;
      AddAttention(place().first, place().second);
      ++flat;
    }
    if (stage + 1 < config.stages()) AddResample(place().first, place().second), ++flat;
  }
  flat = 0;
  for (std::int64_t stage = 0; stage < config.stages(); ++stage) {
    const std::string block = StrCat("decoder.up_blocks.", stage);
    for (std::int64_t r = 0; r <= config.num_res_blocks; ++r) {
      AddResidualBlock(StrCat("decoder.upsamples.", flat++), StrCat(block, ".resnets.", r));
    }
    if (stage + 1 < config.stages()) AddResample(StrCat("decoder.upsamples.", flat++), block + ".upsamplers.0");
  }
}

// 2.2: both nest.
void VaeNames::AddResidualStages(const VaeConfig& config) {
  for (std::int64_t stage = 0; stage < config.stages(); ++stage) {
    const std::string down = StrCat("encoder.downsamples.", stage, ".downsamples."), down_block = StrCat("encoder.down_blocks.", stage);
    const std::string up = StrCat("decoder.upsamples.", stage, ".upsamples."), up_block = StrCat("decoder.up_blocks.", stage);
    const std::int64_t blocks = config.num_res_blocks;
    for (std::int64_t r = 0; r < blocks; ++r) AddResidualBlock(StrCat(down, r), StrCat(down_block, ".resnets.", r));
    for (std::int64_t r = 0; r <= blocks; ++r) AddResidualBlock(StrCat(up, r), StrCat(up_block, ".resnets.", r));
    if (stage + 1 == config.stages()) continue;
    AddResample(StrCat(down, blocks), down_block + ".downsampler");
    AddResample(StrCat(up, blocks + 1), up_block + ".upsampler");
  }
}

std::string VaeNames::Renamed(const Table& table, std::string_view name, std::string_view form) {
  const std::size_t dot = std::min(name.rfind('.'), name.size());
  const auto it = table.find(name.substr(0, dot));
  if (it == table.end()) throw Error(StrCat("\"", name, "\" is no ", form, " name of a tensor of this VAE"));
  return it->second + std::string(name.substr(dot));
}

std::string VaeNames::Diffusers(std::string_view original) const { return Renamed(to_diffusers_, original, "original"); }
std::string VaeNames::Original(std::string_view diffusers) const { return Renamed(to_original_, diffusers, "Diffusers"); }

}  // namespace sgmd
