// A topology file as it is read: what is missing, unknown or contradictory is an error at its line.
#include <algorithm>
#include <cstdlib>
#include <regex>
#include <span>

#include "common/config/device.h"
#include "common/config/field_reader.h"
#include "common/config/topology_fields.h"
#include "common/error/error.h"
#include "common/error/text.h"

namespace sgmd {
namespace {

void CheckDevice(const TomlTable& table, const char* key, const std::string& device) {
  if (!ParseDevice(device)) table.Fail(key, StrCat("\"", key, "\" is \"", device, "\""), kDeviceForms);
}

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

// The endpoint with its variables expanded.
std::string CheckedEndpoint(const TomlTable& table, const std::string& key, const std::string& text,
                            const std::vector<std::string>& hosts) {
  static const std::regex pattern("ipc://.+|tcp://[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]+");
  const std::string endpoint = WithVariables(table, key, text);
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

// `encrypt_said`: whether the file has the key; where it has not, all but ipc is encrypted.
void CheckTransport(const TomlTable& transport, bool encrypt_said, Topology& t) {
  t.transport.data = CheckedEndpoint(transport, "data", t.transport.data, t.run.hosts);
  t.transport.control = CheckedEndpoint(transport, "control", t.transport.control, t.run.hosts);
  const auto is_tcp = [](const std::string& endpoint) { return endpoint.starts_with("tcp://"); };
  const bool reachable = !IsLoopback(t.transport.data) || !IsLoopback(t.transport.control);
  if (!encrypt_said) t.transport.encrypt = is_tcp(t.transport.data) || is_tcp(t.transport.control);
  if (reachable && !t.transport.encrypt) {
    transport.Fail("encrypt", "endpoints that other hosts can reach are always encrypted", "remove this line");
  }
  if (t.transport.silence_seconds <= t.transport.beat_seconds) {
    transport.Fail("silence_seconds", "\"silence_seconds\" must be above \"beat_seconds\"");
  }
}

void CheckHosts(const TomlTable& run, const std::vector<std::string>& hosts) {
  for (auto host = hosts.begin(); host != hosts.end(); ++host) {
    if (!std::regex_match(*host, std::regex("[A-Za-z0-9][A-Za-z0-9._-]*"))) {
      run.Fail("hosts", StrCat("\"", *host, "\" cannot be the name of a host"),
               "letters, digits, dots, dashes and underscores");
    }
    if (std::find(hosts.begin(), host, *host) != host) run.Fail("hosts", StrCat("host \"", *host, "\" is named twice"));
  }
}

void CheckHost(const TomlTable& table, const char* key, const std::string& host,
               const std::vector<std::string>& hosts) {
  if (host.empty() || std::find(hosts.begin(), hosts.end(), host) != hosts.end()) return;
  table.Fail(key, StrCat("unknown host \"", host, "\""),
             hosts.empty() ? "name the hosts first: [run] hosts = [\"" + host + "\", ...]"
                           : "[run] hosts are: " + Joined(hosts, ", "));
}

// Of one group.
void CheckDevices(const TomlTable& table, std::span<const std::string> devices) {
  for (auto device = devices.begin(); device != devices.end(); ++device) {
    CheckDevice(table, "devices", *device);
    const auto parsed = ParseDevice(*device);
    const bool twice =
        std::any_of(devices.begin(), device, [&](const std::string& before) { return ParseDevice(before) == parsed; });
    if (twice && parsed->kind != Device::Kind::kCpu)
      table.Fail("devices", StrCat("\"", *device, "\" is there twice"), "one rank for each device");
  }
}

void CheckTrainedRole(const TomlTable& table, const Topology::TrainedRole& role, const Topology& t) {
  CheckHost(table, "host", role.host, t.run.hosts);
  CheckDevice(table, "device", role.device);
  CheckDevices(table, role.devices);
}

// Each of them has the next `ranks` devices, all of one host.
void CheckTeacherGroups(const TomlTable& teacher, const Topology::Teacher& t) {
  const auto ranks = static_cast<std::size_t>(t.ranks);
  if (t.devices.empty() && t.ranks > 1 && ParseDevice(t.device)->kind != Device::Kind::kCpu)
    teacher.Fail("ranks", StrCat(ranks, " ranks cannot share \"", t.device, "\""),
                 StrCat("devices = [...] names ", ranks, " for each replica"));
  if (t.devices.size() % ranks != 0)
    teacher.Fail("devices", StrCat(t.devices.size(), " devices are no multiple of \"ranks\" = ", ranks),
                 "each replica has as many, the next in the list");
  for (std::size_t first = 0; first < t.devices.size(); first += ranks) {
    CheckDevices(teacher, std::span(t.devices).subspan(first, ranks));
    for (std::size_t rank = 1; rank < ranks && !t.hosts.empty(); ++rank) {
      if (t.hosts[first + rank] != t.hosts[first])
        teacher.Fail(
            "hosts",
            StrCat("a teacher's ranks would be on \"", t.hosts[first], "\" and \"", t.hosts[first + rank], "\""),
            "a group is on one host: what its ranks send each other is not encrypted");
    }
  }
}

// A group shares the model already, and on the CPU the device's memory is the host's: nothing would be saved.
void CheckOffload(const TomlTable& teacher, const Topology::Teacher& t) {
  if (!t.offload) return;
  if (t.ranks > 1)
    teacher.Fail("offload", StrCat("a teacher of ", t.ranks, " ranks cannot be offloaded"),
                 "its ranks share the model already: ranks = 1, or no \"offload\"");
  const auto on_cpu = [](const std::string& device) { return ParseDevice(device)->kind == Device::Kind::kCpu; };
  if (t.devices.empty() ? on_cpu(t.device) : std::ranges::any_of(t.devices, on_cpu))
    teacher.Fail("offload", "a teacher on the cpu has its blocks in main memory already",
                 "for teachers on GPUs alone; here remove this line");
}

void CheckTeachers(const TomlTable& teacher, const Topology& t) {
  CheckDevice(teacher, "device", t.teacher.device);
  for (const std::string& host : t.teacher.hosts) CheckHost(teacher, "hosts", host, t.run.hosts);
  const std::size_t hosts = t.teacher.hosts.size(), devices = t.teacher.devices.size();
  if (hosts > 0 && devices > 0 && hosts != devices) {
    teacher.Fail("hosts", StrCat("\"hosts\" names ", hosts, ", \"devices\" ", devices),
                 "one host for each device, in the same order");
  }
  CheckTeacherGroups(teacher, t.teacher);
  CheckOffload(teacher, t.teacher);
}

void CheckEvaluator(const TomlTable& evaluator, const Topology& t) {
  CheckHost(evaluator, "host", t.evaluator.host, t.run.hosts);
  if (!t.evaluator.features.empty() && !std::filesystem::exists(t.evaluator.features)) {
    evaluator.Fail("features", "no feature network at " + t.evaluator.features.string());
  }
  for (const std::string& sign : t.evaluator.stop_when) {
    if (std::ranges::find(kCollapseSigns, sign) == std::end(kCollapseSigns))
      evaluator.Fail("stop_when", StrCat("an entry of \"stop_when\" is \"", sign, "\""),
                     "each one of: static, falling, colourful");
  }
  CheckDevice(evaluator, "device", t.evaluator.device);
  if (!t.evaluator.vae.empty() && !std::filesystem::exists(t.evaluator.vae))
    evaluator.Fail("vae", "no VAE at " + t.evaluator.vae.string());
}

void CheckMetrics(const TomlTable& metrics, const std::string& listen) {
  if (!listen.empty() && !std::regex_match(listen, std::regex("[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]+")))
    metrics.Fail("listen", StrCat("\"listen\" is ", listen), "<address>:<port>, such as 127.0.0.1:9464");
}

void CheckEnv(const TomlTable& env, const Topology& t) {
  for (const auto& [name, value] : t.env) {
    if (!std::regex_match(name, std::regex("[A-Za-z_][A-Za-z0-9_]*"))) {
      env.Fail(name, StrCat("\"", name, "\" cannot be the name of an environment variable"),
               "letters, digits and underscores, no digit first");
    }
    if (value.find('\0') != std::string::npos) env.Fail(name, StrCat("\"", name, "\" holds a zero byte"));
  }
}

}  // namespace

Topology ReadTopology(const std::filesystem::path& path, const TomlOverrides& overrides) {
  TomlTable root = TomlFile::Open(path, overrides).root();
  Topology t;
  FieldReader reader(root);
  VisitFields(reader, t);
  root.Finish();
  TomlTable run = root.Table("run"), cache = root.Table("cache"), transport = root.Table("transport");
  if (!std::filesystem::exists(t.run.experiment)) {
    run.Fail("experiment", "no such file: " + t.run.experiment.string());
  }
  CheckHosts(run, t.run.hosts);
  CheckTrainedRole(root.Table("generator"), t.generator, t);
  CheckTrainedRole(root.Table("fake_score"), t.fake_score, t);
  CheckTeachers(root.Table("teacher"), t);
  CheckEvaluator(root.Table("evaluator"), t);
  if (t.run.hosts.size() > 1 && t.cache.enabled && t.cache.folder.empty()) {
    cache.Fail("folder", "with several hosts the cache needs a \"folder\"",
               StrCat("on a disk of ", t.run.hosts.front(),
                      "'s own, such as /var/tmp/sgmd: the run folder is shared, and only the broker there opens it"));
  }
  CheckTransport(transport, transport.Has("encrypt"), t);
  CheckMetrics(root.Table("metrics"), t.metrics.listen);
  CheckEnv(root.Table("env"), t);
  return t;
}

}  // namespace sgmd
