#include "nodes/simulator/simulated_run.h"

#include <stdlib.h>

#include <algorithm>
#include <cstring>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

fs::path NewTemporaryFolder() {
  std::error_code error;
  const fs::path parent = fs::temp_directory_path(error);
  if (error) throw Error("there is no folder for temporary files", {}, "TMPDIR says where it is, else it is /tmp");
  std::string pattern = parent / "sgmd-simulate-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) ThrowErrno("cannot make a folder", pattern, "TMPDIR says where");
  return pattern;
}

Experiment ExperimentOf(const SimulationOptions& options, const fs::path& folder) {
  Experiment e;
  e.name = "simulation";
  e.seed = options.seed;
  e.steps = options.steps;
  e.model.teacher = folder / "model";
  e.model.prompts = folder / "prompts";
  e.data.latent = {1, 1, 1, options.sample_bytes / 4};
  e.data.micro_batches = options.MicroBatches();
  e.outer.max_staleness = options.max_staleness;
  e.checkpoint.every = options.steps;                                              // none
  e.optimizer.generator.learning_rate = e.optimizer.fake_score.learning_rate = 1;  // of nothing; must be there
  return e;
}

Topology TopologyOf(const SimulationOptions& options, const fs::path& folder) {
  Topology t;
  t.run.folder = folder;
  t.teacher.replicas = options.teachers;
  t.cache.enabled = options.cache;
  t.cache.limit_gib = options.cache_limit_gib;
  t.transport.lease_seconds = options.lease_seconds;
  t.transport.silence_seconds = options.silence_seconds;
  t.transport.beat_seconds = std::min(t.transport.beat_seconds, options.silence_seconds / 4);
  ResolveDefaults(t);
  return t;
}

}  // namespace

SimulatedRun::SimulatedRun(const SimulationOptions& options) : folder_(NewTemporaryFolder()) {
  try {
    MakeFiles(options);
  } catch (...) {
    fs::remove_all(folder_);
    throw;
  }
}

SimulatedRun::~SimulatedRun() {
  std::error_code ignored;
  fs::remove_all(SocketPath(plan_.topology.transport.data).parent_path(), ignored);  // elsewhere where TMPDIR is long
  fs::remove_all(folder_, ignored);
}

fs::path SimulatedRun::SocketPath(const std::string& endpoint) { return endpoint.substr(std::strlen("ipc://")); }

void SimulatedRun::MakeFiles(const SimulationOptions& options) {
  fs::create_directories(folder_ / "model");
  fs::create_directories(RunFolder{folder_}.Logs());
  WriteFileAtomically(folder_ / "model/config.json", "{}");
  WriteFileAtomically(folder_ / "model/model.safetensors", "no weights");
  WriteFileAtomically(folder_ / "prompts", "no prompts");
  plan_.experiment = ExperimentOf(options, folder_);
  plan_.topology = TopologyOf(options, folder_);
  SaveRun(plan_);
  WriteRunStart({folder_}, {kEpoch});
  MakeRunKeys(RunFolder{folder_}.Keys(), UsersOf(plan_), plan_.topology.transport.encrypt);
  run_id_ = ExperimentDigest(plan_.experiment);
}

NodeIdentity SimulatedRun::NewProcess(const std::string& node) const {
  NodeIdentity identity{
      node, run_id_, kEpoch,
      LoadCredentials(RunFolder{folder_}.Keys(), UserOf(plan_, node), plan_.topology.transport.encrypt)};
  identity.process += ++processes_;
  return identity;
}

}  // namespace sgmd
