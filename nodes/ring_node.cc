#include "nodes/ring_node.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <ctime>

#include "common/error/error.h"
#include "common/log/log.h"
#include "nodes/command_line.h"
#include "pipeline/models/tensor_bytes.h"

namespace sgmd {
namespace {

constexpr std::chrono::seconds kBrokerPatience{120};  // the broker may be digesting a large teacher

struct RoleSettings {
  std::string device;
  std::int64_t threads;
};

RoleSettings SettingsOf(const LaunchPlan& plan, const std::string& role) {
  if (role == "generator") return {plan.topology.generator.device, plan.experiment.threads.generator};
  if (role == "fake_score") return {plan.topology.fake_score.device, plan.experiment.threads.fake_score};
  return {plan.topology.teacher.device, plan.topology.teacher.threads};
}

at::Device ParseDevice(const std::string& text) {
  const at::Device device(text);
  if (device.is_cuda() && !at::hasCUDA()) {
    throw Error("device " + text + " is not available", {},
                "build with -DSGMD_CUDA=ON on a machine with a GPU, or use cpu");
  }
  return device;
}

}  // namespace

TensorFrame ToFrame(std::string name, const at::Tensor& tensor) {
  return {ViewOf(std::move(name), tensor), std::make_shared<at::Tensor>(tensor)};
}

Client RingNode::Connect(Envelope hello) const {
  return Client(plan.topology.transport.data, identity, std::move(hello), kBrokerPatience);
}

int RunRingNode(int argc, char** argv, const std::string& role, const std::string& description,
                const std::function<int(const RingNode&)>& body) {
  CLI::App app{description + "\nStarted by sgmd-launch."};
  std::filesystem::path run;
  std::string device;
  RingNode node;
  node.identity.node = role == "teacher" ? "teacher.0" : role;
  app.add_option("--run", run, "Run folder")->required();
  app.add_option("--epoch", node.identity.epoch, "Which start of the run this is")->required();
  app.add_option("--device", device, "cpu, cuda or cuda:N (default: as the topology says)");
  if (role == "teacher") app.add_option("--name", node.identity.node, "teacher.N")->capture_default_str();
  AddVersion(app);
  CLI11_PARSE(app, argc, argv);
  return RunGuarded("sgmd " + node.identity.node, [&] {
    InitLog(node.identity.node);
    node.plan = LoadRun(run);
    node.identity.run_id = ExperimentDigest(node.plan.experiment);
    if (node.plan.topology.transport.encrypt)
      node.identity.keys = LoadClientKeys(RunFolder{node.plan.topology.run.folder}.Keys());
    const RoleSettings settings = SettingsOf(node.plan, role);
    at::set_num_threads(static_cast<int>(settings.threads));
    node.device = ParseDevice(device.empty() ? settings.device : device);
    const int code = body(node);
    LogInfo("used ", static_cast<double>(std::clock()) / CLOCKS_PER_SEC, " s of CPU");
    return code;
  });
}

}  // namespace sgmd
