// A whole run small enough for a test: a model of two layers with random weights, and the launcher as a real process.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "common/config/topology.h"
#include "pipeline/models/wan_config.h"
#include "tests/support/temp_folder.h"

namespace sgmd {

/// Writes a model folder with random weights (also in the head, so that gradients are not zero) and a prompt bank.
/// `width`: the model's dim, a multiple of 24. `channels`: of its latents.
void WriteTinyModel(const std::filesystem::path& folder, std::uint64_t seed = 1, std::int64_t width = 24,
                    std::int64_t channels = 3);

/// Sizes of such a model, and one of any sizes.
WanConfig TinyModelConfig(std::int64_t width = 24, std::int64_t channels = 3);
void WriteTinyModel(const std::filesystem::path& folder, const WanConfig& config, std::uint64_t seed);

/// Writes two such models as the experts of one, in the layout of original repositories.
void WriteTinyExperts(const std::filesystem::path& folder, std::int64_t width = 24, std::int64_t channels = 3);

/// Writes model/, experiment.toml and topology.toml of a run of `steps` steps in `folder`/run. `experiment` lines are
/// appended to the experiment file, `topology` lines to the topology file.
void WriteTinyRun(const std::filesystem::path& folder, std::int64_t steps, const std::string& experiment = "",
                  const std::string& topology = "");

/// A started process whose output goes to a file.
struct Process {
  pid_t pid = -1;
  std::filesystem::path output;
  /// Exit code, or 128 + signal; -1 when it has not ended after `seconds`.
  int Wait(double seconds) const;
  std::string Output() const;
};

class TinyRun {
 public:
  /// As WriteTinyRun, in a folder of its own.
  explicit TinyRun(std::int64_t steps, const std::string& experiment = "", const std::string& topology = "");
  ~TinyRun();

  const std::filesystem::path& folder() const { return folder_.path(); }
  std::filesystem::path topology() const { return folder_ / "topology.toml"; }
  std::filesystem::path run() const { return folder_ / "run"; }
  Experiment experiment() const { return LoadLaunchPlan(topology()).experiment; }

  /// A program with its arguments; what is left of it ends with this object.
  Process Start(std::vector<std::string> command);
  /// sgmd-launch with `arguments`.
  Process Launch(const std::vector<std::string>& arguments);
  /// Waits until a checkpoint of at least `step` is committed; false after `seconds`.
  bool WaitForCheckpoint(std::int64_t step, double seconds) const;
  /// Pids of the run's processes whose command line has `word`, such as "sgmd-teacher" or "teacher.1".
  std::vector<pid_t> Pids(const std::string& word) const;
  /// kill -9 of the one process that Pids(word) finds; false, and nothing is killed, when there is not exactly one.
  bool Kill(const std::string& word) const;
  /// Digests of the states in the newest checkpoint of `run_folder`: equal text, equal weights, however many ranks
  /// wrote them.
  static std::string NewestState(const std::filesystem::path& run_folder);
  /// The same files as the serial loop makes them, with the pauses of the run so far.
  std::string SerialState() const;

 private:
  TempFolder folder_;
  std::vector<Process> processes_;
};

}  // namespace sgmd
