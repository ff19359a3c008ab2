#include "launch/plan/balance.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <optional>
#include <regex>
#include <utility>

#include "common/config/topology_fields.h"
#include "common/error/error.h"
#include "launch/plan/memory_plan.h"
#include "launch/plan/time_plan.h"

namespace sgmd {
namespace {

constexpr int kMost = 16;

// Consecutive GPUs of a host.
struct Window {
  int host = 0, first = 0, count = 0;
};

std::vector<std::string> DevicesOf(const Window& window) {
  std::vector<std::string> devices;
  for (int gpu = window.first; gpu < window.first + window.count; ++gpu) devices.push_back(StrCat("cuda:", gpu));
  return devices;
}

// Of `counts` GPUs, at both ends of a host.
std::vector<Window> WindowsOf(int host, int gpus, const std::vector<int>& counts) {
  std::vector<Window> windows;
  for (const int count : counts) {
    windows.push_back({host, 0, count});
    if (count < gpus) windows.push_back({host, gpus - count, count});
  }
  return windows;
}

// Numbers of ranks that share `micro_batches`, where `sharing` ranks share each.
std::vector<int> Ranks(int gpus, std::int64_t micro_batches, std::int64_t sharing) {
  std::vector<int> ranks;
  for (int n = 1; n <= gpus; n *= 2) {
    if (n % sharing == 0 && micro_batches % (n / sharing) == 0) ranks.push_back(n);
  }
  return ranks;
}

// Which GPUs have teachers: of one host any number, at either end; of several each has none, either half or all.
std::vector<std::vector<Window>> TeacherChoices(const Rack& rack) {
  std::vector<std::vector<Window>> choices;
  if (rack.hosts == 1) {
    for (int count = 1; count <= rack.gpus; ++count) {
      for (const Window& window : WindowsOf(0, rack.gpus, {count})) choices.push_back({window});
    }
    return choices;
  }
  choices.emplace_back();
  for (int host = 0; host < rack.hosts; ++host) {
    std::vector<int> counts{rack.gpus};
    if (rack.gpus > 1) counts.push_back(rack.gpus / 2);
    const std::vector<Window> windows = WindowsOf(host, rack.gpus, counts);
    for (std::size_t before = choices.size(), i = 0; i < before; ++i) {
      for (const Window& window : windows) {
        choices.push_back(choices[i]);
        choices.back().push_back(window);
      }
    }
  }
  std::erase_if(choices, [](const auto& choice) { return choice.empty(); });
  return choices;
}

void Place(Topology::TrainedRole& role, const Window& window, const Topology& t, double memory_gib) {
  role.host = t.run.hosts.empty() ? "" : t.run.hosts[static_cast<std::size_t>(window.host)];
  role.devices = DevicesOf(window);
  role.device = role.devices.front();
  if (role.devices.size() == 1) role.devices.clear();
  role.device_memory_gib = memory_gib;
}

// Of whole teachers, or with the GPUs of each window as a group, for which windows are of one size.
std::vector<int> TeacherRanks(const std::vector<Window>& windows) {
  const int count = windows.front().count;
  const bool alike = std::ranges::all_of(windows, [&](const Window& window) { return window.count == count; });
  return alike && count > 1 ? std::vector<int>{1, count} : std::vector<int>{1};
}

void PlaceTeachers(Topology& t, const std::vector<Window>& windows, int ranks, double memory_gib) {
  t.teacher.devices.clear();
  t.teacher.hosts.clear();
  for (const Window& window : windows) {
    for (const std::string& device : DevicesOf(window)) {
      t.teacher.devices.push_back(device);
      if (!t.run.hosts.empty()) t.teacher.hosts.push_back(t.run.hosts[static_cast<std::size_t>(window.host)]);
    }
  }
  t.teacher.ranks = ranks;
  t.teacher.replicas = static_cast<std::int64_t>(t.teacher.devices.size()) / ranks;
  t.teacher.device_memory_gib = memory_gib;
}

// With everything kept that is left to the plan: it takes no longer with any part of that.
LaunchPlan WithAllKept(LaunchPlan plan) {
  Topology::Generator& generator = plan.topology.generator;
  if (generator.keep_exit_graphs == Topology::kAsManyAsFit)
    generator.keep_exit_graphs = plan.experiment.data.micro_batches;
  for (Topology::TrainedRole* role : {static_cast<Topology::TrainedRole*>(&generator), &plan.topology.fake_score}) {
    if (role->keep_attention == Keep::kAuto) role->keep_attention = Keep::kAlways;
    if (role->keep_blocks == Topology::kAsManyAsFit) role->keep_blocks = std::numeric_limits<std::int64_t>::max();
  }
  return plan;
}

double LargestNeed(const MemoryPlan& memory) {
  double largest = 0;
  for (const DeviceMemory& device : memory.devices) largest = std::max(largest, device.need);
  return largest;
}

// The plan on the hosts of the rack, before its roles are placed.
LaunchPlan OnRack(LaunchPlan plan, const Rack& rack) {
  Topology& t = plan.topology;
  if (rack.hosts == 1) {
    t = OnOneHost(t);
    return plan;
  }
  if (static_cast<int>(t.run.hosts.size()) != rack.hosts) {
    t.run.hosts.clear();
    for (int host = 0; host < rack.hosts; ++host) t.run.hosts.push_back(std::string(1, static_cast<char>('a' + host)));
    t.transport.data = "tcp://${SGMD_HEAD:-10.0.0.1}:5555";
    t.transport.control = "tcp://${SGMD_HEAD:-10.0.0.1}:5556";
    t.transport.encrypt = true;
    t.cache.folder = "/var/tmp/sgmd/" + plan.experiment.name;
  }
  t.evaluator.host = "";
  return plan;
}

}  // namespace

Rack ParseRack(const std::string& text) {
  std::smatch part;
  if (!std::regex_match(text, part, std::regex("(?:([0-9]{1,2})x)?([0-9]{1,2})x([0-9]{1,4})gb")))
    throw Error("\"" + text + "\" names no machines", "--balance",
                "8x80gb is a host with eight GPUs of 80 GB, 3x8x80gb three of them");
  Rack rack;
  rack.hosts = part[1].matched ? std::stoi(part[1]) : 1;
  rack.gpus = std::stoi(part[2]);
  const int named = std::stoi(part[3]);
  rack.memory_gib = named == 141 ? 139 : named - 1;
  if (rack.hosts < 1 || rack.hosts > kMost || rack.gpus < 1 || rack.gpus > kMost || named < 2)
    throw Error(StrCat("\"", text, "\": there are 1 to ", kMost, " hosts and GPUs of a host"), "--balance");
  return rack;
}

Balanced BalancedOver(const LaunchPlan& original, const RoleConfigs& configs, const Rack& rack,
                      std::optional<double> tflops) {
  LaunchPlan plan = OnRack(original, rack);
  const Experiment& e = plan.experiment;
  Topology& t = plan.topology;
  const bool asked = t.generator.keep_exit_graphs != Topology::kAsManyAsFit;
  const int other = rack.hosts > 1 ? 1 : 0;
  // A host is as good as another: the generator is on the first, the fake score there or on the second.
  const std::vector<Window> generators =
      WindowsOf(0, rack.gpus, Ranks(rack.gpus, LandedMicroBatches(e), e.sequence_parallel.generator));
  std::vector<Window> fake_scores;
  const std::vector<int> ranks = e.inner.pace == InnerPacing::kFree
                                     ? std::vector<int>{static_cast<int>(e.sequence_parallel.fake_score)}
                                     : Ranks(rack.gpus, e.data.micro_batches, e.sequence_parallel.fake_score);
  for (int host = 0; host <= other; ++host) {
    for (const Window& window : WindowsOf(host, rack.gpus, ranks)) fake_scores.push_back(window);
  }
  std::optional<Balanced> best;
  double best_need = 0, least_need = 0;
  // The plan as it is placed now. Of two that take as long, whole teachers are preferred, then the smaller need.
  const auto consider = [&] {
    t.generator.keep_attention = original.topology.generator.keep_attention;
    t.fake_score.keep_attention = original.topology.fake_score.keep_attention;
    t.generator.keep_blocks = original.topology.generator.keep_blocks;
    t.fake_score.keep_blocks = original.topology.fake_score.keep_blocks;
    t.teacher.offload = original.topology.teacher.offload && t.teacher.ranks == 1;
    if (!asked) t.generator.keep_exit_graphs = 0;
    const MemoryPlan memory = PlanMemory(plan, configs, 0);
    const double need = LargestNeed(memory);
    if (least_need == 0 || need < least_need) least_need = need;
    if (!memory.Fits()) return;
    if (!asked) t.generator.keep_exit_graphs = Topology::kAsManyAsFit;
    // To decide takes a hundred times as long as to see that it cannot help.
    if (best && PlanTime(WithAllKept(plan), configs, tflops).step_seconds > 1.001 * best->step_seconds) return;
    DecideWhatIsKept(plan, configs, 0);
    const double seconds = PlanTime(plan, configs, tflops).step_seconds;
    if (best && seconds > 1.001 * best->step_seconds) return;
    const bool quicker = !best || seconds < 0.999 * best->step_seconds;
    if (!quicker && std::pair(t.teacher.ranks, need) >= std::pair(best->plan.topology.teacher.ranks, best_need)) return;
    best = {plan, seconds};
    best_need = need;
  };
  for (const std::vector<Window>& teachers : TeacherChoices(rack)) {
    for (const Window& generator : generators) {
      Place(t.generator, generator, t, rack.memory_gib);
      for (const Window& fake_score : fake_scores) {
        Place(t.fake_score, fake_score, t, rack.memory_gib);
        for (const int teacher_ranks : TeacherRanks(teachers)) {
          PlaceTeachers(t, teachers, teacher_ranks, rack.memory_gib);
          consider();
        }
      }
    }
  }
  if (!best) {
    throw Error(StrCat("no split over these machines fits: the least that one of their GPUs needs is ",
                       Gigabytes(least_need), " GB of ", Gigabytes(rack.memory_gib * kGibibyte)),
                "--balance", "larger GPUs, [lora], or what `plan` says of a smaller need");
  }
  return *best;
}

std::string BalancedToml(const Balanced& balanced, const RoleConfigs& configs, const std::string& rack) {
  char step[32];
  std::snprintf(step, sizeof step, "%.3g", balanced.step_seconds);
  return StrCat("# ", balanced.plan.experiment.name, " over ", rack, ", as `sgmd-launch plan --balance ", rack,
                "` splits it: ", step, " s a step by its estimate.\n# ",
                BalanceText(PlanMemory(balanced.plan, configs, 0)), "\n", ToToml(balanced.plan.topology));
}

}  // namespace sgmd
