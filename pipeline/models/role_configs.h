// The sizes of the network of each role: one model's, or a smaller student's beside a larger teacher's. No LibTorch.
#pragma once

#include <string>

#include "common/config/experiment.h"
#include "pipeline/models/wan_config.h"

namespace sgmd {

/// How many transformers of a role's model there are: one, or two experts of one size.
struct Transformers {
  int all = 1;      // that the model has
  int held = 1;     // that each of the role's processes holds
  int trained = 1;  // of those; of a teacher without meaning
};

/// They share a latent space and a text encoder; all else may differ.
class RoleConfigs {
 public:
  /// All three are of one model.
  RoleConfigs(const WanConfig& all) : teacher_{all}, generator_{all}, fake_score_{all} {}  // NOLINT: meant to convert
  /// Reads the config.json of ModelOf each role. Throws Error as ExpertsOf and WanConfig::FromFile do, and on experts
  /// of other sizes than each other.
  explicit RoleConfigs(const Experiment& experiment);

  /// Of the generator, which is the student, of the fake score, and of any other role the teacher's.
  const WanConfig& Of(Role role) const { return At(role).config; }
  const Transformers& TransformersOf(Role role) const { return At(role).transformers; }

 private:
  struct One {
    WanConfig config;
    Transformers transformers = {};
  };
  static One OneOf(const Experiment& experiment, Role role);
  const One& At(Role role) const;

  One teacher_, generator_, fake_score_;
};

/// FLOPs of a forward pass of the role's network over those of the teacher's, for a latent of the experiment: what a
/// forward-equivalent of the role is worth. 1 where it is the teacher's model. Throws Error as RoleConfigs does.
double ForwardCost(const Experiment& experiment, Role role);

/// Why a network of `config` cannot be trained beside a teacher of `teacher`: it has other latents, hence another VAE,
/// reads prompts of another text encoder, or takes a first frame in another way. Empty where it can.
std::string WhyNotBeside(const WanConfig& teacher, const WanConfig& config);

}  // namespace sgmd
