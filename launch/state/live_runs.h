// The runs of this machine that are up.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sgmd {

/// A launcher that holds a run folder.
struct LiveLauncher {
  int pid = 0;
  std::filesystem::path run_folder;
  std::string host;  // a further host of a run of several; empty: the head, or the only one
};

/// The launchers whose files this user may see in /proc, by run folder.
std::vector<LiveLauncher> LiveLaunchers();

}  // namespace sgmd
