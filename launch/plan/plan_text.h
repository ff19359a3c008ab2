// What a launch would do, as text.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/config/topology.h"

namespace sgmd {

/// Processes host by host, devices, threads, endpoints, folders, and the checkpoint that `up` would resume from. With
/// RequiredFiles::kConfig the model may lack its weights: the experiment's identity, and so the checkpoint, are not
/// known then.
std::string PlanText(const LaunchPlan& plan, const std::filesystem::path& programs,
                     RequiredFiles needed = RequiredFiles::kAll);

/// An sbatch script for a topology with hosts: one task a node, the first node of the job being the first host.
/// `up_command` starts a launcher but for its --host.
std::string SlurmHostsScript(const LaunchPlan& plan, const std::vector<std::string>& up_command);

/// An sbatch script with one task a process on one host, starting the commands that `up` starts.
std::string SlurmScript(const LaunchPlan& plan, const std::filesystem::path& programs);

}  // namespace sgmd
