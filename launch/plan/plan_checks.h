// What can be known of a plan before anything starts, beyond what its two files say.
#pragma once

#include <string>

#include "common/config/placement.h"
#include "common/config/toml_reader.h"
#include "pipeline/models/role_configs.h"

namespace sgmd {

/// Throws Error located in the experiment file (or at its override) when [model] prompts is not a prompt bank, or not
/// one that the models can read (RequireFits): the roles would say so when they have loaded them.
void RequirePromptBank(const LaunchPlan& plan, const RoleConfigs& configs, const TomlOverrides& overrides);

/// Bytes of float32 weights that the generator sends the fake score in every step: 0 without [objective] alignment.
double AlignmentBytes(const Experiment& experiment, const RoleConfigs& configs);

/// Throws Error located as above when student or fake score cannot be trained beside the teacher (WhyNotBeside), or
/// with [objective] alignment have other sizes than each other.
void RequireModelsFit(const LaunchPlan& plan, const RoleConfigs& configs, const TomlOverrides& overrides);

/// Throws Error located as above when [sequence_parallel] does not divide the heads of the role's network.
void RequireSequenceFits(const LaunchPlan& plan, const RoleConfigs& configs, const TomlOverrides& overrides);

/// Throws Error located as above when AlignmentBytes is more than 2 GiB: the generator copies them, the broker passes
/// them on and the fake score waits for them in every step.
void RequireAlignmentFits(const LaunchPlan& plan, const RoleConfigs& configs, const TomlOverrides& overrides);

/// GPUs of this machine as its driver shows them: /dev/nvidia0 and so on. Where the environment names another library
/// for them (SGMD_CUDA_LIBRARY), as many as one likes: the processes ask it.
int GpusOfThisMachine();

/// The processes of `host` whose GPU a machine with `gpus` of them has not: "generator on cuda:0, ..."; empty when it
/// has all.
std::string MissingDevices(const LaunchPlan& plan, const std::string& host, int gpus);

}  // namespace sgmd
