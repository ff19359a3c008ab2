// What a launch would do, as text.
#pragma once

#include <filesystem>
#include <string>

#include "common/config/topology.h"

namespace sgmd {

/// Processes, devices, threads, endpoints, folders, and the checkpoint that `up` would resume from. With RequiredFiles::kConfig the
/// model may lack its weights: the experiment's identity, and so the checkpoint, are not known then.
std::string PlanText(const LaunchPlan& plan, const std::filesystem::path& programs, RequiredFiles needed = RequiredFiles::kAll);

/// An sbatch script with one task a process on one host, starting the commands that `up` starts.
std::string SlurmScript(const LaunchPlan& plan, const std::filesystem::path& programs);

}  // namespace sgmd
