// Texts for people.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sgmd {

/// The texts with `separator` between them.
std::string Joined(const std::vector<std::string>& texts, std::string_view separator = " ");

/// Up to the first end of a line.
std::string FirstLine(std::string_view text);

/// A hint about a name that is none of `known`: the nearest of them where one is near, else all.
std::string NearestHint(const std::string& wrong, const std::vector<std::string>& known);

}  // namespace sgmd
