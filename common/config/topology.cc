#include "common/config/topology.h"

#include <fstream>
#include <regex>

#include "common/config/toml_reader.h"
#include "common/config/toml_writer.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {
namespace {

constexpr NumberRange kSeconds{0, 1e6, true, false};
constexpr std::size_t kMaxIpcPath = 100;  // sockaddr_un holds 107 bytes

void CheckDevice(const TomlTable& table, const char* key, const std::string& device) {
  if (std::regex_match(device, std::regex("cpu|cuda(:[0-9]+)?"))) return;
  table.Fail(key, StrCat("\"", key, "\" is \"", device, "\""), "cpu, cuda or cuda:N");
}

std::string ReadDevice(TomlTable table, const std::string& fallback) {
  const std::string device = table.Text("device", fallback);
  CheckDevice(table, "device", device);
  return device;
}

double ReadDeviceMemory(TomlTable table) { return table.Real("device_memory_gib", {0, 1e6}, 0.0); }

std::string DefaultEndpoint(const std::filesystem::path& run_folder, const std::string& name) {
  std::filesystem::path path = run_folder / (name + ".ipc");
  if (path.string().size() > kMaxIpcPath) {
    path = std::filesystem::path("/tmp") / ("sgmd-" + DigestText(run_folder.string()).Hex()) / (name + ".ipc");
  }
  return "ipc://" + path.string();
}

std::string ReadEndpoint(TomlTable table, const std::string& key) {
  const std::string endpoint = table.Text(key, "");
  if (!endpoint.empty() && !std::regex_match(endpoint, std::regex("ipc://.+|tcp://(127\\.[0-9.]+|localhost|\\[::1\\]):[0-9]+"))) {
    table.Fail(key, StrCat("\"", key, "\" must be an ipc:// or a loopback tcp:// endpoint"),
               "endpoints that other hosts can reach need encryption, which is not available yet");
  }
  return endpoint;
}

Topology ReadTopology(const std::filesystem::path& path) {
  TomlTable root = TomlFile::Open(path).root();
  Topology t;
  TomlTable run = root.Table("run");
  t.experiment = run.Path("experiment");
  if (!std::filesystem::exists(t.experiment)) run.Fail("experiment", "no such file: " + t.experiment.string());
  t.run_folder = run.Path("folder");
  TomlTable generator = root.Table("generator");
  t.generator_device = ReadDevice(generator, t.generator_device);
  t.generator_device_memory_gib = ReadDeviceMemory(generator);
  t.generator_checkpoint_blocks = generator.Boolean("checkpoint_blocks", t.generator_checkpoint_blocks);
  TomlTable fake_score = root.Table("fake_score");
  t.fake_score_device = ReadDevice(fake_score, t.fake_score_device);
  t.fake_score_device_memory_gib = ReadDeviceMemory(fake_score);
  t.fake_score_checkpoint_blocks = fake_score.Boolean("checkpoint_blocks", t.fake_score_checkpoint_blocks);
  TomlTable teacher = root.Table("teacher");
  t.teacher_replicas = teacher.Integer("replicas", {0, 4096}, t.teacher_replicas);
  t.teacher_device = ReadDevice(teacher, t.teacher_device);
  t.teacher_devices = teacher.Texts("devices", t.teacher_devices);
  for (const std::string& device : t.teacher_devices) CheckDevice(teacher, "devices", device);
  t.teacher_device_memory_gib = ReadDeviceMemory(teacher);
  t.teacher_threads = teacher.Integer("threads", {1, 1024}, t.teacher_threads);
  t.teacher_max_restarts = teacher.Integer("max_restarts", {0, 1000000}, t.teacher_max_restarts);
  TomlTable evaluator = root.Table("evaluator");
  t.evaluator_enabled = evaluator.Boolean("enabled", t.evaluator_enabled);
  t.evaluator_features = evaluator.Path("features", std::filesystem::path());
  if (!t.evaluator_features.empty() && !std::filesystem::exists(t.evaluator_features)) {
    evaluator.Fail("features", "no feature network at " + t.evaluator_features.string());
  }
  if (t.evaluator_enabled && t.evaluator_features.empty()) {
    evaluator.Fail("enabled", "evaluating needs \"features\"", "features = \"../models/bouncing_ball_features.safetensors\"");
  }
  t.evaluator_samples = evaluator.Integer("samples", {64, 1e6}, t.evaluator_samples);
  t.evaluator_teacher_steps = evaluator.Integer("teacher_steps", {1, 1000}, t.evaluator_teacher_steps);
  t.evaluator_threads = evaluator.Integer("threads", {1, 1024}, t.evaluator_threads);
  TomlTable cache = root.Table("cache");
  t.cache_folder = cache.Path("folder", std::filesystem::path());
  t.cache_enabled = cache.Boolean("enabled", t.cache_enabled);
  t.cache_limit_gib = cache.Real("limit_gib", {0, 1e9, true}, t.cache_limit_gib);
  TomlTable transport = root.Table("transport");
  t.data_endpoint = ReadEndpoint(transport, "data");
  t.control_endpoint = ReadEndpoint(transport, "control");
  t.lease_seconds = transport.Real("lease_seconds", kSeconds, t.lease_seconds);
  t.beat_seconds = transport.Real("beat_seconds", kSeconds, t.beat_seconds);
  t.silence_seconds = transport.Real("silence_seconds", kSeconds, t.silence_seconds);
  if (t.silence_seconds <= t.beat_seconds) {
    transport.Fail("silence_seconds", "\"silence_seconds\" must be above \"beat_seconds\"");
  }
  root.Finish();
  return t;
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
  out.Table("generator").Text("device", t.generator_device).Real("device_memory_gib", t.generator_device_memory_gib);
  out.Boolean("checkpoint_blocks", t.generator_checkpoint_blocks);
  out.Table("fake_score").Text("device", t.fake_score_device).Real("device_memory_gib", t.fake_score_device_memory_gib);
  out.Boolean("checkpoint_blocks", t.fake_score_checkpoint_blocks);
  out.Table("teacher").Integer("replicas", t.teacher_replicas).Text("device", t.teacher_device);
  if (!t.teacher_devices.empty()) out.Texts("devices", t.teacher_devices);
  out.Real("device_memory_gib", t.teacher_device_memory_gib);
  out.Integer("threads", t.teacher_threads).Integer("max_restarts", t.teacher_max_restarts);
  out.Table("evaluator").Boolean("enabled", t.evaluator_enabled);
  if (!t.evaluator_features.empty()) out.Text("features", t.evaluator_features.string());
  out.Integer("samples", t.evaluator_samples).Integer("teacher_steps", t.evaluator_teacher_steps);
  out.Integer("threads", t.evaluator_threads);
  out.Table("cache").Text("folder", t.cache_folder.string()).Boolean("enabled", t.cache_enabled);
  out.Real("limit_gib", t.cache_limit_gib);
  out.Table("transport").Text("data", t.data_endpoint).Text("control", t.control_endpoint);
  out.Real("lease_seconds", t.lease_seconds).Real("beat_seconds", t.beat_seconds);
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
