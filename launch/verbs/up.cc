// Starting runs.
#include <iostream>
#include <memory>
#include <optional>

#include "common/error/error.h"
#include "common/error/text.h"
#include "common/trace/trace.h"
#include "launch/plan/memory_plan.h"
#include "launch/plan/plan_checks.h"
#include "launch/plan/teacher_scale.h"
#include "launch/run/exit_codes.h"
#include "launch/run/further_host.h"
#include "launch/run/session.h"
#include "launch/verbs/detach.h"
#include "launch/verbs/planning.h"
#include "launch/verbs/verb_words.h"
#include "launch/verbs/verbs.h"

namespace sgmd {
namespace {

struct UpOptions : PlanningOptions {
  std::string host, trace;
  bool replay = false, quiet = false, fresh = false, detach = false;
};

// Which of the topology's hosts this is.
std::string HostOfThis(const UpOptions& o, const Topology& topology) {
  for (const std::string& host : topology.run.hosts) {
    if (host == o.host) return host;
  }
  if (topology.run.hosts.empty() && o.host.empty()) return "";
  if (topology.run.hosts.empty()) {
    throw Error("--host " + o.host + " was given, and the topology names no hosts", o.target.string(),
                "[run] hosts = [...]");
  }
  throw Error(o.host.empty() ? "which of the topology's hosts is this?" : "the topology has no host " + o.host,
              o.target.string(), "--host, one of: " + Joined(topology.run.hosts, ", "));
}

void RequireDevices(const LaunchPlan& plan, const std::string& host) {
  const std::string missing = MissingDevices(plan, host, GpusOfThisMachine());
  if (missing.empty()) return;
  throw Error(StrCat("this machine has no such device: ", missing), plan.topology.run.folder.string(),
              "nothing was started; a GPU's driver shows it as /dev/nvidia0 and so on");
}

void RequireNothingThere(const UpOptions& o, const LaunchPlan& plan) {
  const auto checkpoints = RunFolder{plan.topology.run.folder}.Checkpoints();
  if (!o.fresh || !std::filesystem::exists(checkpoints)) return;
  throw Error("--fresh was given, and the folder holds checkpoints", checkpoints.string(),
              "remove it or choose another with --run-folder");
}

// What is left to do once nothing can be refused any more.
struct Prepared {
  std::filesystem::path run_folder;
  bool head = true;
  std::function<int()> run;  // returns the exit code
};

// Nothing where it was refused in words.
std::optional<Prepared> Prepare(const UpOptions& o) {
  if (!o.trace.empty()) trace::ParseSteps(o.trace);  // may refuse
  LaunchPlan plan = PlanOf(o, o.replay);
  const std::int64_t of_topology = plan.topology.teacher.replicas;
  const std::string scaled = o.replay ? "" : ApplyRememberedTeachers(plan, SetsTeachers(o));
  RequireServable(plan, o);
  DecideWhatIsKept(plan, RoleConfigs(plan.experiment), MachineMemory());
  const std::string host = HostOfThis(o, plan.topology);
  const bool head = host.empty() || host == plan.topology.run.hosts.front();
  if (head) RequireNothingThere(o, plan);
  if (!o.replay && plan.topology.teacher.replicas == 0) {
    throw Error("a run needs a teacher, and [teacher] replicas is 0", o.target.string(),
                "without teachers a recorded run can be replayed: sgmd-launch replay");
  }
  LaunchPlan used = plan;
  if (o.replay) used.topology.teacher.replicas = 0;
  if (const std::string text = OversizeText(used, o); !text.empty()) {
    std::cerr << text << "nothing was started; --allow-oversize starts it all the same\n";
    return {};
  }
  RequireDevices(used, host);
  const SessionOptions options{host, o.replay, o.quiet, o.trace};
  const std::filesystem::path& folder = plan.topology.run.folder;
  if (!scaled.empty()) std::cerr << scaled << "\n";
  if (!head) {
    const auto further = std::make_shared<FurtherHost>(plan, options, ProgramFolder());
    return Prepared{folder, false, [further] { return further->Run(); }};
  }
  const auto session = std::make_shared<Session>(plan, options, ProgramFolder());
  if (!scaled.empty() && plan.topology.teacher.replicas == of_topology) ForgetTeachers(folder);
  return Prepared{folder, true, [session] { return session->Run(); }};
}

int Up(const UpOptions& o, Detachment* detachment) {
  std::optional<Prepared> prepared;
  RunGuarded("sgmd-launch", [&] {
    prepared = Prepare(o);
    return 0;
  });
  if (!prepared) return kExitRefused;
  if (detachment != nullptr) detachment->Leave(prepared->run_folder, prepared->head);
  return prepared->run();
}

int Up(const UpOptions& o) {
  if (!o.detach) return Up(o, nullptr);
  return Detached([&](Detachment& detachment) { return Up(o, &detachment); });
}

Verb StartingVerb(CLI::App* verb, bool replay) {
  const auto o = std::make_shared<UpOptions>();
  o->replay = replay;
  AddTarget(*verb, o->target);
  AddRunFolder(*verb, *o);
  AddAllowOversize(*verb, *o);
  verb->add_flag("--detach", o->detach, "Return once the broker answers; the run goes on in the background");
  verb->add_flag("--quiet", o->quiet, "Progress only; process output goes to the logs");
  verb->add_option("--trace", o->trace,
                   "Record what every process does in some steps: steps=3 (the third of this start and the two after "
                   "it) or steps=3@100; into <run folder>/trace.json, in Chrome's trace format");
  if (!replay) {
    AddOverrides(*verb, *o);
    verb->add_flag("--fresh", o->fresh, "Refuse to resume: the run folder must hold no checkpoint");
    verb->add_option("--host", o->host, "Which of the topology's hosts this is: only its processes are started here");
  }
  return {verb, [o] { return Up(*o); }};
}

}  // namespace

Verb UpVerb(CLI::App& app) {
  return StartingVerb(
      AddVerb(app, "up", "Start the run or resume it; Ctrl-C drains and checkpoints, a second one kills",
              "up launch/topologies/laptop.toml\n"
              "up topology.toml --set experiment.steps=200 --quiet\n"
              "up topology.toml --detach && sgmd-launch wait topology.toml\n"
              "up topology.toml --trace steps=3\n"
              "up topology.toml --host b"),
      false);
}

Verb ReplayVerb(CLI::App& app) {
  return StartingVerb(AddVerb(app, "replay", "Run the recorded experiment again from the score cache; needs no teacher",
                              "replay launch/topologies/laptop.toml\n"
                              "replay topology.toml --run-folder /tmp/again"),
                      true);
}

}  // namespace sgmd
