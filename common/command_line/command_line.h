// Command lines: what a person mistyped is an error like all others.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string_view>

namespace sgmd {

/// Adds --version and parses the arguments of `program` into what `app` binds. Returns the exit code where the program
/// is to end now: 0 after --help or --version, 1 after a mistake, which is printed to stderr as "program: error: ..."
/// with a hint. A first word that is no subcommand of an app that has some is named, with the nearest one.
std::optional<int> ParseCommandLine(CLI::App& app, int argc, char** argv, std::string_view program);

/// Takes decimal numbers in [low, high]; not "nan", which CLI::Range lets pass.
CLI::Validator NumberIn(double low, double high);

/// Takes whole numbers in [0, 2^63), as seeds are.
CLI::Validator Seed();

}  // namespace sgmd
