// The two sets of names that the tensors of a Wan VAE have in files (tables of wan_facts §3.1 and §3.2).
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "pipeline/vae/vae_config.h"

namespace sgmd {

/// Original ("decoder.upsamples.3.resample.1.weight") <-> Diffusers ("decoder.up_blocks.0.upsamplers.0.resample.1.weight").
/// Block numbers are flat in one form and nested in the other, so the table depends on the config.
class VaeNames {
 public:
  explicit VaeNames(const VaeConfig& config);

  /// Each throws Error on a name that no tensor of this VAE has.
  std::string Diffusers(std::string_view original) const;
  std::string Original(std::string_view diffusers) const;

 private:
  using Table = std::map<std::string, std::string, std::less<>>;
  void Add(const std::string& original, const std::string& diffusers);
  void AddResidualBlock(const std::string& original, const std::string& diffusers);
  void AddAttention(const std::string& original, const std::string& diffusers);
  void AddResample(const std::string& original, const std::string& diffusers);
  void AddPlainStages(const VaeConfig& config);
  void AddResidualStages(const VaeConfig& config);
  static std::string Renamed(const Table& table, std::string_view name, std::string_view form);

  Table to_diffusers_, to_original_;  // by module: the name without ".weight", ".bias" or ".gamma"
};

}  // namespace sgmd
