#include "nodes/ring/join.h"

#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <ctime>
#include <optional>

#include "common/command_line/command_line.h"
#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/log/log.h"
#include "common/trace/trace.h"
#include "pipeline/device/open_device.h"
#include "pipeline/device/peak_memory.h"
#include "pipeline/device/torch_program.h"
#include "pipeline/parallel/process_group.h"

namespace sgmd {
namespace {

constexpr std::chrono::seconds kBrokerPatience{120};  // the broker may be digesting a large teacher
// A rank waits for orders as long as rank 0 waits for others. One that is lost is found by its connection, one that
// stands still by its beats.
constexpr std::chrono::hours kGroupPatience{24 * 365};

// `attempt`: of the group, which starts and ends as one.
RankGroup Meet(const RingNode& node, const NodeName& name, const std::string& attempt) {
  const int ranks = RanksOf(node.plan.topology, name), sharing = SequenceRanksOf(node.plan.experiment, name);
  if (ranks == 1) return Alone();
  const std::filesystem::path folder = RunFolder{node.plan.topology.run.folder}.Groups();
  const auto where = [&](const std::string& what, int rank, int of) {
    return Rendezvous{folder / StrCat(SpeakerOf(node.identity.node), ".", attempt, ".", what), rank, of,
                      kGroupPatience};
  };
  const auto on_device = [&](const Rendezvous& there) -> std::shared_ptr<Collectives> {
    if (HasNccl()) return ConnectNccl(there);
    return ThroughHost(ConnectGloo(there));
  };
  RankGroup group;
  group.host = ConnectGloo(where("host", name.rank, ranks));
  group.device = node.device.is_cpu() ? group.host : on_device(where("device", name.rank, ranks));
  if (sharing > 1) {
    const Rendezvous there = where(StrCat("sequence.", name.rank / sharing), name.rank % sharing, sharing);
    group.sequence = node.device.is_cpu() ? std::shared_ptr<Collectives>(ConnectGloo(there)) : on_device(there);
  }
  if (!node.device.is_cpu() && !HasNccl())
    LogWarning("this build has no NCCL: the group's tensors go through main memory, which is slow");
  return group;
}

// A rank that loses another one is not the cause of what follows.
int Run(const std::function<int(const RingNode&)>& body, const RingNode& node) try {
  return body(node);
} catch (const GroupLost& error) {
  LogError(error.message(), ": ", error.hint());
  return kExitGroupLost;
}

}  // namespace

Client RingNode::Connect(const message::Hello& hello) const {
  return Client(plan.topology.transport.data, identity, ToEnvelope(hello), kBrokerPatience);
}

int RunRingNode(int argc, char** argv, const std::string& role, const std::string& description,
                const std::function<int(const RingNode&)>& body) {
  CLI::App app{description + "\nStarted by sgmd-launch."};
  std::filesystem::path run;
  std::string attempt = "0";
  RingNode node;
  node.identity.node = role == "teacher" ? "teacher.0" : role;
  app.add_option("--run", run, "Run folder")->required();
  app.add_option("--epoch", node.identity.epoch, "Which start of the run this is")->required();
  app.add_option(
         "--name", node.identity.node,
         StrCat(role == "teacher" ? "teacher.N; " : "", "of a rank after the first: ", node.identity.node, "/N"))
      ->capture_default_str();
  app.add_option("--attempt", attempt,
                 "Of a rank of a group: a word that its ranks have in common, new for each start");
  std::optional<double> planned_gb;
  app.add_option(
      "--planned-gb", planned_gb,
      "What it is to hold on its device by plan, beside context and kernels; said at its end with what it held");
  if (const auto code = ParseCommandLine(app, argc, argv, "sgmd " + role)) return *code;
  return RunTorchProgram("sgmd " + node.identity.node, [&] {
    InitLog(node.identity.node);
    node.plan = LoadRun(run);
    node.identity.run_id = ExperimentDigest(node.plan.experiment);
    node.identity.credentials =
        LoadCredentials(RunFolder{node.plan.topology.run.folder}.Keys(), UserOf(node.plan, node.identity.node),
                        node.plan.topology.transport.encrypt);
    const auto name = ParseNodeName(node.identity.node);
    if (!name || Spell(name->role) != role) throw Error(node.identity.node + " is not the name of a " + role, "--name");
    const Placement placement = PlacementOf(node.plan, *name);
    at::set_num_threads(static_cast<int>(placement.threads));
    node.device = OpenDevice(Spell(placement.device), {node.plan.experiment.precision.deterministic});
    const trace::Recording recording(RunFolder{run}.Traces(), FileNameOf(node.identity.node), node.plan.start.step,
                                     node.plan.experiment.outer.max_staleness + node.plan.experiment.outer.reuse);
    node.group = Meet(node, *name, attempt);
    const int code = Run(body, node);
    // Of one that fails, the last line is the reason.
    if (code == 0 && node.group.ranks() > 1)
      LogInfo("received ", static_cast<double>(node.group.received()) / 1e6, " MB from the other ranks of its group");
    const PeakMemory peak = PeakMemoryOf(node.device);
    if (code == 0 && peak.reserved > 0)
      LogInfo("held at most ", static_cast<double>(peak.tensors) / 1e9, " GB in tensors on ", Spell(placement.device),
              ", ", static_cast<double>(peak.reserved) / 1e9, " GB with what was kept free",
              planned_gb ? StrCat("; by plan ", *planned_gb, " GB") : "");
    if (code == 0) LogInfo("used ", static_cast<double>(std::clock()) / CLOCKS_PER_SEC, " s of CPU");
    return code;
  });
}

}  // namespace sgmd
