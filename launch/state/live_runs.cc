#include "launch/state/live_runs.h"

#include <algorithm>
#include <cstdlib>

namespace sgmd {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kProgram = "sgmd-launch", kLock = ".lock";

// A program that was built anew while it runs is "sgmd-launch (deleted)".
bool IsLauncher(const fs::path& process) {
  std::error_code failed;
  return fs::read_symlink(process / "exe", failed).filename().string().starts_with(kProgram);
}

// The locks that a process has open: <run folder>/.lock or <run folder>/.lock.<host> (RunLock).
std::vector<fs::path> LocksOf(const fs::path& process) {
  std::vector<fs::path> locks;
  std::error_code failed;
  for (const auto& fd : fs::directory_iterator(process / "fd", failed)) {
    const fs::path file = fs::read_symlink(fd.path(), failed);
    const std::string name = file.filename().string();
    if (name == kLock || name.starts_with(std::string(kLock) + ".")) locks.push_back(file);
  }
  return locks;
}

}  // namespace

std::vector<LiveLauncher> LiveLaunchers() {
  std::vector<LiveLauncher> found;
  for (const auto& process : fs::directory_iterator("/proc")) {
    const int pid = std::atoi(process.path().filename().c_str());
    if (pid <= 0 || !IsLauncher(process.path())) continue;
    for (const fs::path& lock : LocksOf(process.path())) {
      const std::string name = lock.filename().string();
      found.push_back({pid, lock.parent_path(), name == kLock ? "" : name.substr(kLock.size() + 1)});
    }
  }
  std::ranges::sort(found, {}, [](const LiveLauncher& l) { return std::pair(l.run_folder, l.host); });
  return found;
}

}  // namespace sgmd
