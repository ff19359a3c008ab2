// Words that several verbs have on their command lines.
#pragma once

#include <filesystem>
#include <string>

#include "common/command_line/command_line.h"

namespace sgmd {

/// A verb with its help, which ends in `examples`: a line each, without "sgmd-launch".
CLI::App* AddVerb(CLI::App& app, const std::string& name, const std::string& help, const std::string& examples);

/// The topology file or run folder that a verb works on.
void AddTarget(CLI::App& verb, std::filesystem::path& target);

}  // namespace sgmd
