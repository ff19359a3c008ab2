// The command line of every process of a run.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/config/placement.h"

namespace sgmd {

struct RunCommand {
  Placement place;
  std::string name;                        // Spell(place.node)
  std::vector<std::string> words;          // the program and its arguments
  std::map<std::string, std::string> env;  // over the launcher's own environment
};

/// The processes of Placements(plan) on all hosts, as start `epoch` of the run. `replay`: without teachers, the broker
/// serves from the cache. `programs`: folder of the executables.
std::vector<RunCommand> RunCommands(const LaunchPlan& plan, std::uint64_t epoch, bool replay,
                                    const std::filesystem::path& programs);

}  // namespace sgmd
