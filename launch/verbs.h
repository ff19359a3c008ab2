// What sgmd-launch does, a function a verb; each returns the exit code.
#pragma once

#include <filesystem>
#include <string>

#include "common/config/toml_reader.h"

namespace sgmd {

/// The command line.
struct LaunchOptions {
  std::filesystem::path target;  // topology file or run folder
  TomlOverrides overrides;       // --set
  std::string run_folder, host, emit, time_limit = "24:00:00", scale, process;
  bool quiet = false, fresh = false, now = false, follow = false, no_weights = false, allow_oversize = false;
  double tflops = 0;  // of every device; 0: what the plan assumes
  int lines = 40;
};

int PlanVerb(const LaunchOptions& options);
int UpVerb(const LaunchOptions& options, bool replay);
int StatusVerb(const LaunchOptions& options);
int ScaleVerb(const LaunchOptions& options);
int DownVerb(const LaunchOptions& options);
int LogsVerb(const LaunchOptions& options);
/// Prints the configuration reference as Markdown.
int ReferenceVerb();

}  // namespace sgmd
