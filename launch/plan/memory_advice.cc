// What a person can change in a plan that does not fit, tried in order of cost.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "launch/plan/memory_plan.h"
#include "launch/plan/time_plan.h"

namespace sgmd {
namespace {

constexpr double kWorthwhile = 0.99;    // a change that leaves more than this share of the need is not worth a line
constexpr std::int64_t kLoraRank = 64;  // of the public recipe (wan_facts §5)

// The device that exceeds its memory most; its need - has is what the changes must bring to 0.
const DeviceMemory& Worst(const MemoryPlan& memory) {
  return *std::max_element(memory.devices.begin(), memory.devices.end(), [](const auto& a, const auto& b) {
    const auto excess = [](const DeviceMemory& d) { return d.fits() ? -1 : d.need - d.has; };
    return excess(a) < excess(b);
  });
}

struct Change {
  std::string text;  // the keys to change
  std::string cost;  // what it costs
  std::function<void(LaunchPlan&)> apply;
};

std::string ProcessesOn(const MemoryPlan& memory, const std::string& device) {
  std::string names;
  for (const ProcessMemory& p : memory.processes) {
    if (p.device == device) names += (names.empty() ? "" : ", ") + p.process;
  }
  return names;
}

// As many GPUs as there are processes: enough to see what each needs by itself.
void SpreadOverDevices(LaunchPlan& plan) {
  Topology& t = plan.topology;
  std::int64_t next = 0;
  const auto take = [&](std::int64_t count) {
    std::vector<std::string> devices;
    for (std::int64_t i = 0; i < count; ++i) devices.push_back(StrCat("cuda:", next++));
    return devices;
  };
  const auto spread = [&](Topology::TrainedRole& role) {
    const std::vector<std::string> devices = take(role.ranks());
    role.device = devices.front();
    if (devices.size() > 1) role.devices = devices;
    if (devices.size() == 1) role.devices.clear();
  };
  spread(t.generator);
  spread(t.fake_score);
  t.teacher.devices = take(t.teacher.replicas * t.teacher.ranks);
}

bool CanBeOffloaded(const LaunchPlan& plan) {
  const Topology::Teacher& teacher = plan.topology.teacher;
  if (teacher.offload || teacher.ranks > 1 || teacher.replicas == 0) return false;
  return std::ranges::none_of(Placements(plan), [](const Placement& place) {
    return place.node.role == Role::kTeacher && place.device.kind == Device::Kind::kCpu;
  });
}

Change OffloadOf(const LaunchPlan& plan, const RoleConfigs& configs, const OffloadTime& pass) {
  char cost[160];
  std::snprintf(cost, sizeof cost,
                "%s GB of main memory a teacher, and %s: copying takes %.2g s of a pass, computing %.2g s",
                Gigabytes(configs.TransformersOf(Role::kTeacher).held * TeacherBlockBytes(plan, configs)).c_str(),
                pass.copying > pass.computing ? "time" : "no time", pass.copying, pass.computing);
  return {"[teacher] offload = true", cost, [](LaunchPlan& p) { p.topology.teacher.offload = true; }};
}

std::vector<Change> Changes(const LaunchPlan& plan, const RoleConfigs& configs, const MemoryPlan& memory, bool cpu) {
  const Experiment& e = plan.experiment;
  std::vector<Change> changes;
  const std::string& worst = Worst(memory).device;
  const bool can_be_offloaded = CanBeOffloaded(plan);
  const OffloadTime pass = OffloadTimeOf(plan, configs, {});
  const bool hides = pass.copying <= pass.computing;
  if (plan.topology.evaluator.enabled && plan.topology.evaluator.vae_tile == 0) {
    changes.push_back({"[evaluator] vae_tile = 256", "about twice the time to decode a preview",
                       [](LaunchPlan& p) { p.topology.evaluator.vae_tile = 256; }});
  }
  if (!cpu && std::count_if(memory.processes.begin(), memory.processes.end(),
                            [&](const auto& p) { return p.device == worst; }) > 1) {
    changes.push_back({StrCat("a device each for ", ProcessesOn(memory, worst)), "no time", SpreadOverDevices});
  }
  if (plan.topology.generator.keep_blocks > 0 || plan.topology.fake_score.keep_blocks > 0) {
    changes.push_back(
        {"[generator] and [fake_score] keep_blocks = 0", "these blocks run again in each backward pass",
         [](LaunchPlan& p) { p.topology.generator.keep_blocks = p.topology.fake_score.keep_blocks = 0; }});
  }
  if (can_be_offloaded && hides) changes.push_back(OffloadOf(plan, configs, pass));
  if (KeptGraphs(plan) > 0) {
    changes.push_back({"[generator] keep_exit_graphs = 0", "one more forward pass a sample",
                       [](LaunchPlan& p) { p.topology.generator.keep_exit_graphs = 0; }});
  }
  changes.push_back(
      {"[generator] and [fake_score] checkpoint_blocks = true", "one more forward pass in each backward pass",
       [](LaunchPlan& p) { p.topology.generator.checkpoint_blocks = p.topology.fake_score.checkpoint_blocks = true; }});
  if (e.data.micro_batch > 1) {
    changes.push_back({StrCat("[data] micro_batch = 1, micro_batches = ", e.data.micro_batch * e.data.micro_batches),
                       "the same batch in smaller pieces", [](LaunchPlan& p) {
                         p.experiment.data.micro_batches *= p.experiment.data.micro_batch;
                         p.experiment.data.micro_batch = 1;
                       }});
  }
  if (can_be_offloaded && !hides) changes.push_back(OffloadOf(plan, configs, pass));
  if (e.lora.rank == 0) {
    changes.push_back({StrCat("[lora] rank = ", kLoraRank), "adapters are trained in place of all parameters",
                       [](LaunchPlan& p) { p.experiment.lora.rank = kLoraRank; }});
  }
  if (e.precision.compute != Compute::kBfloat16 && !cpu) {  // a CPU without bfloat16 units would take days
    changes.push_back({"[precision] compute = \"bfloat16\"", "rounding; what is trained stays float32",
                       [](LaunchPlan& p) { p.experiment.precision.compute = Compute::kBfloat16; }});
  }
  return changes;
}

}  // namespace

std::string OversizeAdvice(const LaunchPlan& original, const RoleConfigs& configs, double machine_bytes) {
  LaunchPlan plan = original;
  MemoryPlan memory = PlanMemory(plan, configs, machine_bytes);
  if (memory.Fits()) return "";
  std::string text = "\ndoes not fit:\n";
  for (const DeviceMemory& device : memory.devices) {
    if (device.fits()) continue;
    text += StrCat("  ", device.device, " (", ProcessesOn(memory, device.device), ") needs ", Gigabytes(device.need),
                   " GB and has ", Gigabytes(device.has), " GB\n");
  }
  text += "what to change, in order of cost, each on top of those before it:\n";
  const bool cpu = Worst(memory).device.ends_with("cpu");
  int number = 0;
  for (const Change& change : Changes(plan, configs, memory, cpu)) {
    LaunchPlan changed = plan;
    change.apply(changed);
    const MemoryPlan after = PlanMemory(changed, configs, machine_bytes);
    if (!after.Fits() && Worst(after).need > kWorthwhile * Worst(memory).need) continue;
    text += StrCat("  ", ++number, ". ", change.text, "  (", change.cost, "): ");
    if (after.Fits()) return text + "it fits\n";
    text += StrCat(Gigabytes(Worst(after).need), " GB needed where ", Gigabytes(Worst(after).has), " are\n");
    plan = changed;
    memory = after;
  }
  const DeviceMemory& worst = Worst(memory);
  text += StrCat("  ", ++number, ". a device of at least ", Gigabytes(worst.need), " GB (",
                 std::ceil(worst.need / kGibibyte), " GiB)");
  if (cpu) return text + ", or fewer teachers\n";
  return text +
         ", or several that share a role: [generator] and [fake_score] devices = [...]; plan --balance 8x80gb, or "
         "whatever there is, finds a split\n";
}

}  // namespace sgmd
