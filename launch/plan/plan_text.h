// What a launch would do, as text.
#pragma once

#include <filesystem>
#include <string>

#include "common/config/topology.h"

namespace sgmd {

/// Processes host by host, devices, threads, endpoints, folders, and the checkpoint that `up` would resume from as
/// start `epoch`. With RequiredFiles::kConfig the model may lack its weights: the experiment's identity, and so the
/// checkpoint, are not known then.
std::string PlanText(const LaunchPlan& plan, std::uint64_t epoch, const std::filesystem::path& programs,
                     RequiredFiles needed = RequiredFiles::kAll);

}  // namespace sgmd
