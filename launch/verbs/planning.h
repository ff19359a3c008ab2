// From a command line to what is launched, and what is refused before anything starts.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/command_line/command_line.h"
#include "common/config/toml_reader.h"
#include "common/config/topology.h"

namespace sgmd {

/// Words of the verbs that plan or start a run.
struct PlanningOptions {
  std::filesystem::path target;  // topology file or run folder
  TomlOverrides overrides;       // --set
  std::string run_folder;
  bool no_weights = false, allow_oversize = false;
  Groups groups = Groups::kMustFit;
};

void AddOverrides(CLI::App& verb, PlanningOptions& options);
void AddRunFolder(CLI::App& verb, PlanningOptions& options);
void AddAllowOversize(CLI::App& verb, PlanningOptions& options);

RequiredFiles FilesNeeded(const PlanningOptions& options);

/// What the files, --set and --run-folder say. A replay has a folder of its own, <run folder>-replay. Throws Error,
/// with file:line:col where a file is wrong.
LaunchPlan PlanOf(const PlanningOptions& options, bool replay);

/// Whether --set says how many teachers there are.
bool SetsTeachers(const PlanningOptions& options);

/// Throws Error when the prompts or the objective cannot be served by the model.
void RequireServable(const LaunchPlan& plan, const PlanningOptions& options);

/// What to say instead of running what the devices have no memory for; empty where it fits, or with
/// --allow-oversize.
std::string OversizeText(const LaunchPlan& plan, const PlanningOptions& options);

/// The folder of this program, where the others are; $SGMD_BIN_DIR in its place.
std::filesystem::path ProgramFolder();

}  // namespace sgmd
