// Where it runs: a topology file (topologies/*.toml). It names its experiment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "common/config/experiment.h"
#include "common/config/run_folder.h"

namespace sgmd {

/// Whether something is kept that could be computed again: where the plan finds room for it, or as one says.
enum class Keep { kAuto, kAlways, kNever };
std::span<const char* const> SpellingsOf(Keep);

/// One struct a section of the file, one field a key of the same name. What a key means, its range and its default are
/// said once, in topology_fields.cc; `sgmd-launch reference` prints it.
struct Topology {
  struct Run {
    std::filesystem::path experiment, folder;
    std::vector<std::string> hosts;  // the first is the head; empty: one machine without a name
  } run;

  static constexpr std::int64_t kAsManyAsFit = -1;
  /// What [generator] and [fake_score] have in common.
  struct TrainedRole {
    std::string host;
    std::string device = "cpu";
    std::vector<std::string> devices;  // of the ranks in turn
    double device_memory_gib = 0.0;
    bool checkpoint_blocks = false;
    Keep keep_attention = Keep::kAuto;
    std::int64_t keep_blocks = kAsManyAsFit;

    bool keeps_attention() const { return keep_attention == Keep::kAlways; }
    /// Processes that share the role, each with a shard of its model.
    int ranks() const { return devices.empty() ? 1 : static_cast<int>(devices.size()); }
  } fake_score;

  struct Generator : TrainedRole {
    std::int64_t keep_exit_graphs = kAsManyAsFit;
  } generator;

  struct Teacher {
    std::int64_t replicas = 1, ranks = 1;  // processes that share a replica
    std::string device = "cpu";
    std::vector<std::string> devices, hosts;  // of the ranks of the replicas in turn
    double device_memory_gib = 0.0;
    bool offload = false;
    std::int64_t threads = 1;
  } teacher;

  struct Evaluator {
    std::string host, device = "cpu";
    double device_memory_gib = 0.0;
    bool enabled = false;
    std::filesystem::path features, vae;
    std::int64_t samples = 512, videos = 4, vae_tile = 0, teacher_steps = 50, threads = 1;
    std::vector<std::string> stop_when;
  } evaluator;

  /// Of every process of the run.
  struct Restart {
    std::int64_t attempts = 5;
    double window_seconds = 3600.0, first_delay_seconds = 0.5, longest_delay_seconds = 60.0, stall_seconds = 120.0;
  } restart;

  struct Metrics {
    std::string listen;
  } metrics;

  struct Cache {
    std::filesystem::path folder;
    bool enabled = true;
    double limit_gib = 10.0;
  } cache;

  /// `data` and `control` are what others connect to, and the broker binds exactly: tcp://<address or name of its
  /// host>:<port>, or ipc://<file>.
  struct Transport {
    std::string data, control;
    bool encrypt = false;
    double lease_seconds = 60.0, beat_seconds = 0.5, silence_seconds = 15.0;
  } transport;

  std::map<std::string, std::string> env;  // variables of every process
};

/// What [evaluator] stop_when may name (nodes/evaluator/collapse_watch.h).
inline constexpr const char* kCollapseSigns[] = {"static", "falling", "colourful"};

/// The named hosts, the head first; one without a name where the topology names none.
std::vector<std::string> HostsOf(const Topology& topology);
/// The topology with everything on one machine without a name, over ipc endpoints of its run folder.
Topology OnOneHost(Topology topology);

/// Throws Error located by file:line:col at the first mistake. Endpoints may hold $NAME, ${NAME} and ${NAME:-fallback}.
Topology ReadTopology(const std::filesystem::path& path, const TomlOverrides& overrides = {});

/// What a launch needs: where and what.
struct LaunchPlan {
  Topology topology;
  Experiment experiment;
  RunStart start = {};             // of a run that is up, else all 0
  std::filesystem::path recorded;  // of a replay: the folder of the run that it follows
};

/// Whether the groups of ranks must be ones that can share the work, or others are put in their place.
enum class Groups { kMustFit, kAreReplaced };

/// As LoadExperiment. Also loads and validates the experiment it names. An override is of the file that has its
/// section. A default ipc path over 100 bytes is replaced by one under /tmp named by the digest of the run folder.
LaunchPlan LoadLaunchPlan(const std::filesystem::path& topology_path, RequiredFiles needed = RequiredFiles::kAll,
                          const TomlOverrides& overrides = {}, Groups groups = Groups::kMustFit);

/// Fills what a file leaves out and depends on run_folder: cache folder and endpoints.
void ResolveDefaults(Topology& topology);

std::string ToToml(const Topology& topology);

/// Writes resolved/experiment.toml and resolved/topology.toml; LoadRun reads them back (nodes do), with the number of
/// rollbacks, the pauses and the start of the run. Of a replay also what it follows: pauses and pace of the recorded
/// run. Throws Error where that run has no pace to follow and must.
void SaveRun(const LaunchPlan& plan);
LaunchPlan LoadRun(const std::filesystem::path& run_folder);

}  // namespace sgmd
