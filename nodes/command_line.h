// What the command lines of the programs have in common.
#pragma once

#include <CLI/CLI.hpp>
#include <cmath>
#include <limits>
#include <string>

#include "common/error/error.h"
#include "common/version.h"

namespace sgmd {

inline void AddVersion(CLI::App& app) { app.set_version_flag("--version", std::string(Version())); }

/// Takes decimal numbers in [low, high]; not "nan", which CLI::Range lets pass.
inline CLI::Validator NumberIn(double low, double high) {
  const std::string range = StrCat("in [", low, ", ", high, "]");
  return {[=](std::string& text) {
            char* end = nullptr;
            const double value = std::strtod(text.c_str(), &end);
            const bool whole = !text.empty() && *end == '\0';
            return whole && value >= low && value <= high ? std::string() : "\"" + text + "\" is not a number " + range;
          },
          range};
}

/// Takes whole numbers in [0, 2^63), as seeds are.
inline CLI::Validator Seed() {
  return {[](std::string& text) {
            const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
            return digits && std::strtod(text.c_str(), nullptr) < 0x1p63
                       ? std::string()
                       : "\"" + text + "\" is not a whole number in [0, 2^63)";
          },
          ""};
}

}  // namespace sgmd
