// A topology file as it is read: what is missing, unknown or contradictory is an error at its line.
#include <algorithm>
#include <cstdlib>
#include <regex>

#include "common/config/toml_reader.h"
#include "common/config/topology.h"
#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr NumberRange kSeconds{0, 1e6, true, false};

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

// $NAME, ${NAME} and ${NAME:-fallback} stand for environment variables, wherever they are.
std::string WithVariables(const TomlTable& table, const std::string& key, const std::string& text) {
  static const std::regex pattern(R"(\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::-([^}]*))?\}))");
  std::string expanded;
  auto rest = text.begin();
  for (std::sregex_iterator match(text.begin(), text.end(), pattern), end; match != end;
       rest = (*match)[0].second, ++match) {
    const std::string name = (*match)[1].matched ? (*match)[1].str() : (*match)[2].str();
    const char* value = std::getenv(name.c_str());
    const bool set = value != nullptr && *value != '\0';
    if (!set && !(*match)[3].matched) {
      table.Fail(key, StrCat("environment variable ", name, " is not set"),
                 StrCat("export ", name, "=<address of the broker's host>"));
    }
    expanded.append(rest, (*match)[0].first).append(set ? value : (*match)[3].str());
  }
  return expanded.append(rest, text.end());
}

bool IsLoopback(const std::string& endpoint) {
  static const std::regex loopback("ipc://.+|tcp://(127\\.[0-9.]+|localhost):[0-9]+");
  return endpoint.empty() || std::regex_match(endpoint, loopback);
}

std::string ReadEndpoint(TomlTable table, const std::string& key, const std::vector<std::string>& hosts) {
  static const std::regex pattern("ipc://.+|tcp://[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]+");
  const std::string endpoint = WithVariables(table, key, table.Text(key, ""));
  if (!endpoint.empty() && (!std::regex_match(endpoint, pattern) || endpoint.starts_with("tcp://0.0.0.0"))) {
    table.Fail(key, StrCat("\"", key, "\" is ", endpoint),
               "ipc://<file>, or tcp://<address>:<port>: the address that others connect to");
  }
  if (hosts.size() > 1 && !endpoint.starts_with("tcp://")) {
    table.Fail(key, StrCat("with several hosts \"", key, "\" must be a tcp:// endpoint"),
               StrCat(key, " = \"tcp://<address of ", hosts.front(), ">:<port>\", which ", hosts.front(),
                      " binds and the others connect to"));
  }
  return endpoint;
}

void ReadTransport(TomlTable transport, Topology& t) {
  t.data_endpoint = ReadEndpoint(transport, "data", t.hosts);
  t.control_endpoint = ReadEndpoint(transport, "control", t.hosts);
  const bool reachable = !IsLoopback(t.data_endpoint) || !IsLoopback(t.control_endpoint);
  t.encrypt = transport.Boolean("encrypt", reachable);
  if (reachable && !t.encrypt)
    transport.Fail("encrypt", "endpoints that other hosts can reach are always encrypted", "remove this line");
  t.lease_seconds = transport.Real("lease_seconds", kSeconds, t.lease_seconds);
  t.beat_seconds = transport.Real("beat_seconds", kSeconds, t.beat_seconds);
  t.silence_seconds = transport.Real("silence_seconds", kSeconds, t.silence_seconds);
  if (t.silence_seconds <= t.beat_seconds) {
    transport.Fail("silence_seconds", "\"silence_seconds\" must be above \"beat_seconds\"");
  }
}

std::string Listed(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

std::vector<std::string> ReadHosts(TomlTable run) {
  std::vector<std::string> hosts = run.Texts("hosts", std::vector<std::string>());
  for (auto host = hosts.begin(); host != hosts.end(); ++host) {
    if (!std::regex_match(*host, std::regex("[A-Za-z0-9][A-Za-z0-9._-]*"))) {
      run.Fail("hosts", StrCat("\"", *host, "\" is no name of a host"),
               "letters, digits, dots, dashes and underscores");
    }
    if (std::find(hosts.begin(), host, *host) != host) run.Fail("hosts", StrCat("host \"", *host, "\" is named twice"));
  }
  return hosts;
}

void CheckHost(const TomlTable& table, const char* key, const std::string& host,
               const std::vector<std::string>& hosts) {
  if (std::find(hosts.begin(), hosts.end(), host) != hosts.end()) return;
  table.Fail(key, StrCat("unknown host \"", host, "\""),
             hosts.empty() ? "name the hosts first: [run] hosts = [\"" + host + "\", ...]"
                           : "[run] hosts are: " + Listed(hosts));
}

std::string ReadHost(TomlTable table, const std::vector<std::string>& hosts) {
  const std::string host = table.Text("host", "");
  if (!host.empty()) CheckHost(table, "host", host, hosts);
  return host;
}

void ReadTeachers(TomlTable teacher, Topology& t) {
  t.teacher_replicas = teacher.Integer("replicas", {0, 4096}, t.teacher_replicas);
  t.teacher_device = ReadDevice(teacher, t.teacher_device);
  t.teacher_devices = teacher.Texts("devices", t.teacher_devices);
  for (const std::string& device : t.teacher_devices) CheckDevice(teacher, "devices", device);
  t.teacher_hosts = teacher.Texts("hosts", t.teacher_hosts);
  for (const std::string& host : t.teacher_hosts) CheckHost(teacher, "hosts", host, t.hosts);
  if (!t.teacher_hosts.empty() && !t.teacher_devices.empty() && t.teacher_hosts.size() != t.teacher_devices.size()) {
    teacher.Fail("hosts",
                 StrCat("\"hosts\" names ", t.teacher_hosts.size(), ", \"devices\" ", t.teacher_devices.size()),
                 "one host for each device, in the same order");
  }
  t.teacher_device_memory_gib = ReadDeviceMemory(teacher);
  t.teacher_threads = teacher.Integer("threads", {1, 1024}, t.teacher_threads);
  t.teacher_max_restarts = teacher.Integer("max_restarts", {0, 1000000}, t.teacher_max_restarts);
}

void ReadEvaluator(TomlTable evaluator, Topology& t) {
  t.evaluator_host = ReadHost(evaluator, t.hosts);
  t.evaluator_enabled = evaluator.Boolean("enabled", t.evaluator_enabled);
  t.evaluator_features = evaluator.Path("features", std::filesystem::path());
  if (!t.evaluator_features.empty() && !std::filesystem::exists(t.evaluator_features)) {
    evaluator.Fail("features", "no feature network at " + t.evaluator_features.string());
  }
  if (t.evaluator_enabled && t.evaluator_features.empty()) {
    evaluator.Fail("enabled", "evaluating needs \"features\"",
                   "features = \"../models/bouncing_ball_features.safetensors\"");
  }
  t.evaluator_samples = evaluator.Integer("samples", {64, 1e6}, t.evaluator_samples);
  t.evaluator_teacher_steps = evaluator.Integer("teacher_steps", {1, 1000}, t.evaluator_teacher_steps);
  t.evaluator_threads = evaluator.Integer("threads", {1, 1024}, t.evaluator_threads);
}

}  // namespace

Topology ReadTopology(const std::filesystem::path& path) {
  TomlTable root = TomlFile::Open(path).root();
  Topology t;
  TomlTable run = root.Table("run");
  t.experiment = run.Path("experiment");
  if (!std::filesystem::exists(t.experiment)) run.Fail("experiment", "no such file: " + t.experiment.string());
  t.run_folder = run.Path("folder");
  t.hosts = ReadHosts(run);
  TomlTable generator = root.Table("generator");
  t.generator_host = ReadHost(generator, t.hosts);
  t.generator_device = ReadDevice(generator, t.generator_device);
  t.generator_device_memory_gib = ReadDeviceMemory(generator);
  t.generator_checkpoint_blocks = generator.Boolean("checkpoint_blocks", t.generator_checkpoint_blocks);
  TomlTable fake_score = root.Table("fake_score");
  t.fake_score_host = ReadHost(fake_score, t.hosts);
  t.fake_score_device = ReadDevice(fake_score, t.fake_score_device);
  t.fake_score_device_memory_gib = ReadDeviceMemory(fake_score);
  t.fake_score_checkpoint_blocks = fake_score.Boolean("checkpoint_blocks", t.fake_score_checkpoint_blocks);
  ReadTeachers(root.Table("teacher"), t);
  ReadEvaluator(root.Table("evaluator"), t);
  TomlTable cache = root.Table("cache");
  t.cache_folder = cache.Path("folder", std::filesystem::path());
  t.cache_enabled = cache.Boolean("enabled", t.cache_enabled);
  t.cache_limit_gib = cache.Real("limit_gib", {0, 1e9, true}, t.cache_limit_gib);
  if (t.hosts.size() > 1 && t.cache_enabled && t.cache_folder.empty()) {
    cache.Fail("folder", "with several hosts the cache needs a \"folder\"",
               StrCat("on a disk of ", t.hosts.front(),
                      "'s own, such as /var/tmp/sgmd: the run folder is shared, and only the broker there opens it"));
  }
  ReadTransport(root.Table("transport"), t);
  root.Finish();
  return t;
}

}  // namespace sgmd
