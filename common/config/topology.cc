#include "common/config/topology.h"

#include <fstream>

#include "common/config/toml_writer.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

constexpr std::size_t kMaxIpcPath = 100;  // sockaddr_un holds 107 bytes

std::string DefaultEndpoint(const std::filesystem::path& run_folder, const std::string& name) {
  std::filesystem::path path = run_folder / (name + ".ipc");
  if (path.string().size() > kMaxIpcPath) {
    path = std::filesystem::path("/tmp") / ("sgmd-" + DigestText(run_folder.string()).Hex()) / (name + ".ipc");
  }
  return "ipc://" + path.string();
}

}  // namespace

void ResolveDefaults(Topology& t) {
  if (t.cache_folder.empty()) t.cache_folder = t.run_folder / "cache";
  if (t.data_endpoint.empty()) t.data_endpoint = DefaultEndpoint(t.run_folder, "data");
  if (t.control_endpoint.empty()) t.control_endpoint = DefaultEndpoint(t.run_folder, "control");
}

const std::string& TeacherDevice(const Topology& t, std::int64_t replica) {
  if (t.teacher_devices.empty()) return t.teacher_device;
  return t.teacher_devices[static_cast<std::size_t>(replica) % t.teacher_devices.size()];
}

std::string HostOf(const Topology& t, const std::string& process) {
  if (t.hosts.empty()) return "";
  std::string host;
  if (process == "generator") host = t.generator_host;
  if (process == "fake_score") host = t.fake_score_host;
  if (process == "evaluator") host = t.evaluator_host;
  if (process.starts_with("teacher.") && !t.teacher_hosts.empty()) {
    host = t.teacher_hosts[std::stoul(process.substr(sizeof "teacher." - 1)) % t.teacher_hosts.size()];
  }
  return host.empty() ? t.hosts.front() : host;
}

std::vector<std::string> HostsOf(const Topology& t) { return t.hosts.empty() ? std::vector<std::string>{""} : t.hosts; }

Topology OnOneHost(Topology t) {
  t.hosts.clear();
  t.teacher_hosts.clear();
  t.generator_host = t.fake_score_host = t.evaluator_host = t.data_endpoint = t.control_endpoint = "";
  ResolveDefaults(t);
  return t;
}

LaunchPlan LoadLaunchPlan(const std::filesystem::path& topology_path, RequiredFiles needed) {
  LaunchPlan plan;
  plan.topology = ReadTopology(topology_path);
  ResolveDefaults(plan.topology);
  plan.experiment = LoadExperiment(plan.topology.experiment, needed);
  return plan;
}

std::string ToToml(const Topology& t) {
  TomlWriter out;
  out.Table("run").Text("experiment", t.experiment.string()).Text("folder", t.run_folder.string());
  if (!t.hosts.empty()) out.Texts("hosts", t.hosts);
  out.Table("generator").Text("host", t.generator_host).Text("device", t.generator_device);
  out.Real("device_memory_gib", t.generator_device_memory_gib)
      .Boolean("checkpoint_blocks", t.generator_checkpoint_blocks);
  out.Table("fake_score").Text("host", t.fake_score_host).Text("device", t.fake_score_device);
  out.Real("device_memory_gib", t.fake_score_device_memory_gib)
      .Boolean("checkpoint_blocks", t.fake_score_checkpoint_blocks);
  out.Table("teacher").Integer("replicas", t.teacher_replicas).Text("device", t.teacher_device);
  if (!t.teacher_devices.empty()) out.Texts("devices", t.teacher_devices);
  if (!t.teacher_hosts.empty()) out.Texts("hosts", t.teacher_hosts);
  out.Real("device_memory_gib", t.teacher_device_memory_gib);
  out.Integer("threads", t.teacher_threads).Integer("max_restarts", t.teacher_max_restarts);
  out.Table("evaluator").Text("host", t.evaluator_host).Boolean("enabled", t.evaluator_enabled);
  if (!t.evaluator_features.empty()) out.Text("features", t.evaluator_features.string());
  out.Integer("samples", t.evaluator_samples).Integer("teacher_steps", t.evaluator_teacher_steps);
  out.Integer("threads", t.evaluator_threads);
  out.Table("cache").Text("folder", t.cache_folder.string()).Boolean("enabled", t.cache_enabled);
  out.Real("limit_gib", t.cache_limit_gib);
  out.Table("transport").Text("data", t.data_endpoint).Text("control", t.control_endpoint);
  out.Boolean("encrypt", t.encrypt).Real("lease_seconds", t.lease_seconds).Real("beat_seconds", t.beat_seconds);
  out.Real("silence_seconds", t.silence_seconds);
  return out.text();
}

void SaveRun(const LaunchPlan& plan) {
  const RunFolder folder{plan.topology.run_folder};
  std::filesystem::create_directories(folder.Experiment().parent_path());
  Topology topology = plan.topology;
  topology.experiment = folder.Experiment();
  WriteFileAtomically(folder.Experiment(), ToToml(plan.experiment));
  WriteFileAtomically(folder.Topology(), ToToml(topology));
}

LaunchPlan LoadRun(const std::filesystem::path& run_folder) {
  const RunFolder folder{std::filesystem::absolute(run_folder)};
  if (!std::filesystem::exists(folder.Topology())) {
    throw Error("not a run folder", folder.root.string(), "sgmd-launch up <topology.toml> makes one");
  }
  LaunchPlan plan = LoadLaunchPlan(folder.Topology());
  plan.experiment.rollbacks = static_cast<std::int64_t>(RollbacksOf(folder).size());
  return plan;
}

std::vector<std::string> RollbacksOf(const RunFolder& folder) {
  std::vector<std::string> lines;
  std::ifstream file(folder.Rollbacks());
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

}  // namespace sgmd
