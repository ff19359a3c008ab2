// What an earlier training has left where this one is to write.
#pragma once

#include <filesystem>
#include <string>

namespace sgmd {

/// Whether `file` is there and its metadata says under `key` that it was trained with `settings`. Throws Error when it
/// was with others, unless `force`.
bool TrainedAlready(const std::filesystem::path& file, const std::string& key, const std::string& settings, bool force);

}  // namespace sgmd
