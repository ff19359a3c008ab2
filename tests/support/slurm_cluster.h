// A Slurm cluster of two nodes, a and b, on this machine: Debian's slurm-wlm and munge as they are, on loopback.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/support/temp_folder.h"

namespace sgmd {

/// Its daemons end with this object, and what they have started.
class SlurmCluster {
 public:
  /// Whether the programs are installed; root alone can start them.
  static bool Available();
  /// Until both nodes are idle. Throws Error, with the ends of the logs, when they are not after 30 s.
  SlurmCluster();
  ~SlurmCluster();

  /// Submits a batch script: the number of the job.
  std::string Submit(const std::filesystem::path& script);
  /// "RUNNING", "PENDING", "COMPLETED", ... ; empty where Slurm knows no such job.
  std::string StateOf(const std::string& job) const;
  /// False where it is not so after `seconds`.
  bool WaitFor(const std::string& job, const std::string& state, double seconds) const;
  bool NodesAreIdle(double seconds) const;
  /// What a command of Slurm prints, such as "scontrol requeue 1".
  std::string Run(const std::string& command) const;

  /// The node dies with all that runs on it; Slurm is not told.
  void Kill(const std::string& node);
  void StartNode(const std::string& node);

 private:
  void Start(const std::string& name, const std::string& command);
  std::string LogEnds() const;
  std::string MarkOf(const std::string& node) const;

  TempFolder folder_;
  std::map<std::string, pid_t> daemons_;  // by name: munged, slurmctld, a, b
};

}  // namespace sgmd
