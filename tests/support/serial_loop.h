// The oracle: one process, no sockets, one step after the other.
#pragma once

#include <filesystem>

#include "common/config/experiment.h"

namespace sgmd {

struct SerialReport {
  double seconds_per_step = 0;
  double forward_equivalents_per_sample = 0;  // of one outer iteration
};

/// How the roles compute, which changes no bit.
struct SerialOptions {
  int threads = 1;
  bool checkpoint_blocks = false;  // of both trained roles
  bool keep_exit_graph = false;    // of a strict run
};

/// Runs all steps of an experiment and writes the roles' states into `out`, under the names that checkpoints use.
SerialReport RunSerially(const Experiment& experiment, const std::filesystem::path& out,
                         const SerialOptions& options = {});

}  // namespace sgmd
