// The sizes of the network of each role: one model's, or a smaller student's beside a larger teacher's. No LibTorch.
#pragma once

#include <string>

#include "common/config/experiment.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

/// They share a latent space and a text encoder; all else may differ.
class RoleConfigs {
 public:
  /// All three are of one model.
  RoleConfigs(const WanConfig& all) : teacher_(all), generator_(all), fake_score_(all) {}  // NOLINT: meant to convert
  /// Reads the config.json of ModelOf each role. Throws Error as FindModelConfig and WanConfig::FromFile do.
  explicit RoleConfigs(const Experiment& experiment);

  /// Of the generator, which is the student, of the fake score, and of any other role the teacher's.
  const WanConfig& Of(Role role) const;

 private:
  WanConfig teacher_, generator_, fake_score_;
};

/// FLOPs of a forward pass of the role's network over those of the teacher's, for a latent of the experiment: what a
/// forward-equivalent of the role is worth. 1 where it is the teacher's model. Throws Error as RoleConfigs does.
double ForwardCost(const Experiment& experiment, Role role);

/// Why a network of `config` cannot be trained beside a teacher of `teacher`: it has other latents, hence another VAE,
/// or reads prompts of another text encoder. Empty where it can.
std::string WhyNotBeside(const WanConfig& teacher, const WanConfig& config);

}  // namespace sgmd
