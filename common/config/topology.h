// Where it runs: a topology file (topologies/*.toml). It names its experiment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/config/experiment.h"

namespace sgmd {

struct Topology {
  std::filesystem::path experiment;  // [run] experiment: file, required
  std::filesystem::path run_folder;  // [run] folder, required; logs, checkpoints, events, sockets live here

  // [run] hosts: names of the machines; the first is the head, which runs the broker. Empty: one without a name
  std::vector<std::string> hosts;

  std::string generator_host;            // [generator] host; default the head
  std::string generator_device = "cpu";  // [generator] device: cpu | cuda | cuda:N
  double generator_device_memory_gib =
      0.0;  // [generator] device_memory_gib, >= 0: what the device has; 0 = not known (cpu: the machine's)
  bool generator_checkpoint_blocks =
      false;                    // [generator] checkpoint_blocks: keep a block's input only, run it again backward
  std::string fake_score_host;  // [fake_score] host; default the head
  std::string fake_score_device = "cpu";      // [fake_score] device
  double fake_score_device_memory_gib = 0.0;  // [fake_score] device_memory_gib
  bool fake_score_checkpoint_blocks = false;  // [fake_score] checkpoint_blocks
  std::int64_t teacher_replicas = 1;          // [teacher] replicas, >= 0 (0 only with replay)
  std::string teacher_device = "cpu";         // [teacher] device of every replica
  std::vector<std::string> teacher_devices;   // [teacher] devices, in place of device: of the replicas in turn
  std::vector<std::string>
      teacher_hosts;  // [teacher] hosts of the replicas in turn, as many as devices; default the head
  double teacher_device_memory_gib = 0.0;  // [teacher] device_memory_gib of each
  std::int64_t teacher_threads = 1;        // [teacher] threads, >= 1: free, does not change results
  std::int64_t teacher_max_restarts = 5;   // [teacher] max_restarts of one replica before the run fails, >= 0

  std::string evaluator_host;      // [evaluator] host; default the head
  bool evaluator_enabled = false;  // [evaluator] enabled: evaluate every checkpoint while the run goes on
  std::filesystem::path
      evaluator_features;                // [evaluator] features: network of the Fréchet distance, required to evaluate
  std::int64_t evaluator_samples = 256;  // [evaluator] samples: videos behind each figure, >= 64
  std::int64_t evaluator_teacher_steps = 50;  // [evaluator] teacher_steps of the reference, >= 1
  std::int64_t evaluator_threads = 1;         // [evaluator] threads, >= 1; at low priority

  std::filesystem::path cache_folder;  // [cache] folder; default <run_folder>/cache, several hosts must give it
  bool cache_enabled = true;           // [cache] enabled
  double cache_limit_gib = 10.0;       // [cache] limit_gib, > 0: oldest entries go first above it

  // What others connect to, and the broker binds exactly: tcp://<address or name of its host>:<port>, or ipc://<file>
  std::string data_endpoint;      // [transport] data; default ipc in the run folder; tcp with several hosts
  std::string control_endpoint;   // [transport] control; likewise
  bool encrypt = false;           // [transport] encrypt: CURVE on both; always where other hosts can connect
  double lease_seconds = 60.0;    // [transport] lease_seconds, > 0: unanswered leases are re-dispatched
  double beat_seconds = 0.5;      // [transport] beat_seconds, > 0
  double silence_seconds = 15.0;  // [transport] silence_seconds, > beat: a silent node counts as dead
};

/// The device of teacher.`replica`.
const std::string& TeacherDevice(const Topology& topology, std::int64_t replica);
/// The host that broker, fake_score, generator, evaluator or teacher.N runs on; "" where none is named.
std::string HostOf(const Topology& topology, const std::string& process);
/// The named hosts, the head first; one without a name where the topology names none.
std::vector<std::string> HostsOf(const Topology& topology);
/// The topology with everything on one machine without a name, over ipc endpoints of its run folder.
Topology OnOneHost(Topology topology);

/// Throws Error located by file:line:col at the first mistake. Endpoints may hold $NAME, ${NAME} and ${NAME:-fallback}.
Topology ReadTopology(const std::filesystem::path& path);

/// What a launch needs: where and what.
struct LaunchPlan {
  Topology topology;
  Experiment experiment;
};

/// As LoadExperiment. Also loads and validates the experiment it names. A default ipc path over 100 bytes is replaced
/// by one under /tmp named by the digest of the run folder.
LaunchPlan LoadLaunchPlan(const std::filesystem::path& topology_path, RequiredFiles needed = RequiredFiles::kAll);

/// Fills what a file leaves out and depends on run_folder: cache folder and endpoints.
void ResolveDefaults(Topology& topology);

std::string ToToml(const Topology& topology);

/// The files inside a run folder, one place for their names.
struct RunFolder {
  std::filesystem::path root;
  std::filesystem::path Experiment() const { return root / "resolved" / "experiment.toml"; }
  std::filesystem::path Topology() const { return root / "resolved" / "topology.toml"; }
  std::filesystem::path Checkpoints() const { return root / "checkpoints"; }
  std::filesystem::path Keys() const { return root / "keys"; }  // of an encrypted run (common/transport/curve.h)
  std::filesystem::path Logs() const { return root / "logs"; }
  std::filesystem::path Events() const { return root / "events"; }
  std::filesystem::path Epoch() const { return root / "epoch"; }          // how many times the run was started
  std::filesystem::path Outcome() const { return root / "outcome"; }      // how the last start ended, for further hosts
  std::filesystem::path Rollbacks() const { return root / "rollbacks"; }  // a line each: what made it necessary
  std::filesystem::path Evaluation() const { return root / "evaluation"; }
  std::filesystem::path Student() const { return root / "student"; }
};

/// Writes resolved/experiment.toml and resolved/topology.toml; LoadRun reads them back (nodes do), with the number of
/// rollbacks so far.
void SaveRun(const LaunchPlan& plan);
LaunchPlan LoadRun(const std::filesystem::path& run_folder);

/// The lines of `rollbacks`, oldest first; empty when the run never went back.
std::vector<std::string> RollbacksOf(const RunFolder& folder);

}  // namespace sgmd
