// The files of a run that nobody trains: what a broker wants to see before it serves.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>

#include "common/config/topology.h"
#include "common/transport/identity.h"
#include "nodes/simulator/options.h"

namespace sgmd {

/// A run folder of its own in the folder for temporary files (TMPDIR), with a model and prompts that are just large
/// enough to have digests. It is removed with this object.
class SimulatedRun {
 public:
  static constexpr std::uint64_t kEpoch = 1;

  /// Throws Error when the folder cannot be written.
  explicit SimulatedRun(const SimulationOptions& options);
  ~SimulatedRun();
  SimulatedRun(const SimulatedRun&) = delete;

  const LaunchPlan& plan() const { return plan_; }
  const std::filesystem::path& folder() const { return folder_; }
  /// Of `node` as a process of its own: each call gives another one. Thread-safe.
  NodeIdentity NewProcess(const std::string& node) const;
  /// The file that is there once the broker has bound `endpoint`, one of the plan's.
  static std::filesystem::path SocketPath(const std::string& endpoint);

 private:
  void MakeFiles(const SimulationOptions& options);

  std::filesystem::path folder_;
  LaunchPlan plan_;
  Digest run_id_;
  mutable std::atomic<std::uint64_t> processes_{0};
};

}  // namespace sgmd
