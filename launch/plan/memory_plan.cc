#include "launch/plan/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <sstream>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/model_folder.h"
#include "pipeline/models/wan_size.h"

namespace sgmd {
namespace {

// Stated, not computed. CUDA: context and loaded kernels, cuBLAS and cuDNN workspaces. CPU: the pages of LibTorch in
// use.
constexpr double kCudaRuntime = 1.0e9, kCpuRuntime = 0.3e9;
// Latents of a micro-batch at work in a role at once: noise, inputs, outputs, samples, gradients; pairs with guidance.
constexpr double kWorkingLatents = 8;

// Graphs are a choice: they leave room for fragmentation and for what a plan does not know.
constexpr double kFilledByGraphs = 0.9;

bool OnCpu(const Placement& place) { return place.device.kind == Device::Kind::kCpu; }

// What the experiment says about sizes, in one place.
struct Setting {
  const Experiment& e;
  const WanConfig& config;
  double all, trained;  // parameters
  std::int64_t tokens;
  bool adapters, half;  // [lora], bfloat16

  Setting(const Experiment& experiment, const WanConfig& model)
      : e(experiment),
        config(model),
        all(static_cast<double>(ParameterCount(model))),
        trained(all),
        tokens(TokenCount(model, experiment.data.latent)),
        adapters(experiment.lora.rank > 0),
        half(experiment.precision.compute == Compute::kBfloat16) {
    if (adapters) trained = static_cast<double>(LoraParameterCount(model, e.lora.rank, e.lora.targets));
  }

  bool diversity() const { return e.diversity.weight > 0; }
  double LatentBytes() const {  // of a micro-batch, float32 (wan_facts §7 "Bytes")
    double bytes = 4 * static_cast<double>(e.data.micro_batch);
    for (const std::int64_t extent : e.data.latent) bytes *= static_cast<double>(extent);
    return bytes;
  }
  // Samples in a pass of the role, and the pass that needs most.
  PassSettings Pass(Role role, bool checkpoint_blocks) const {
    PassSettings pass;
    pass.samples = e.data.micro_batch * (role == Role::kTeacher && e.model.guidance != 1.0 ? 2 : 1);
    pass.compute_bytes = half ? 2 : 4;
    pass.checkpoint_blocks = checkpoint_blocks;
    pass.lora_rank = adapters ? e.lora.rank : 0;
    pass.backward = role == Role::kTeacher ? Backward::kNone : adapters ? Backward::kAdapters : Backward::kFull;
    return pass;
  }
};

// Where weights are kept in float32 and used in bfloat16, the copies live as long as the activations do: of all blocks,
// or of the one that is run again (wan_facts §7 "gather buffers"), whose gradients are then also returned together.
// Of a rank of a group: what is outside of the blocks, which stays gathered for a pass, and a block; of the one whose
// gradients are exchanged also those, as they are sent and as they come (pipeline/parallel/sharded_parameters.h).
double GatherBuffers(const Setting& s) {
  const double bytes = s.half ? 2 : 4, block = static_cast<double>(BlockParameterCount(s.config));
  const double root = s.all - static_cast<double>(s.config.num_layers) * block;
  const double exchanged = s.adapters ? s.trained / static_cast<double>(s.config.num_layers) : std::max(block, root);
  return bytes * (root + block + 3 * exchanged);
}

double WeightCopies(const Setting& s, bool checkpoint_blocks) {
  if (s.adapters) return 0;  // the base is kept in the compute dtype
  const double block = static_cast<double>(BlockParameterCount(s.config));
  if (checkpoint_blocks) return (s.half ? 2 + 4 : 4) * block;
  return s.half ? 2 * s.all : 0;
}

// Micro-batches whose gradients are on their way, at most.
double InFlight(const Setting& s) {
  return static_cast<double>(s.e.data.micro_batches * (1 + s.e.outer.max_staleness));
}

// Latents of micro-batches that wait in a process's main memory: messages until they are dealt with, and what they were
// made of.
double WaitingLatents(const Setting& s, Role role) {
  const double in_flight = InFlight(s), score = s.e.precision.scores == Compute::kBfloat16 ? 0.5 : 1;
  const double anchors = s.diversity() ? 2 : 0;                    // noise and x_a
  if (role == Role::kTeacher) return 2;                            // leases
  if (role == Role::kGenerator) return in_flight * (4 + anchors);  // two noises, x_g and x_s
  if (role == Role::kBroker) return in_flight * (2 + score + anchors);
  const double recorded =
      s.e.inner.source == InnerSource::kReplay ? static_cast<double>((s.e.inner.max_age + 1) * s.e.data.micro_batches)
      : HasRollouts(s.e.inner.source)          ? static_cast<double>(s.e.inner.updates * s.e.data.micro_batches)
                                               : 0.0;
  return in_flight * (3 + score) + recorded;  // x_g, x_s, velocity, and x_g once more as inner sample
}

double Buffers(const Setting& s, const Placement& place, int ranks) {
  const Role role = place.node.role;
  const bool speaks = place.node.rank == 0;
  const PassSettings pass = s.Pass(role, place.checkpoint_blocks);
  const double text =
      static_cast<double>(pass.samples * s.config.text_len * s.config.text_dim) * (4 + (s.half ? 2 : 0));
  const double rope = 8 * static_cast<double>(s.tokens * s.config.head_dim() / 2);  // complex64
  const double exits = role == Role::kGenerator && speaks ? InFlight(s) : 0;        // inputs of exit steps
  const double waiting = OnCpu(place) && speaks ? WaitingLatents(s, role) : 0;
  const double copies = role == Role::kTeacher ? 0
                        : ranks > 1            ? GatherBuffers(s)
                                               : WeightCopies(s, place.checkpoint_blocks);
  return (kWorkingLatents + exits + waiting) * s.LatentBytes() + text + rope + copies;
}

// Of `graphs` exit steps that are kept, those that wait while a pass runs: all, or all but the one whose backward pass
// it is. In bfloat16 each has its own copies of the trained weights.
double WaitingGraphs(const Setting& s, std::int64_t graphs, bool checkpoint_blocks) {
  const double waiting = static_cast<double>(std::max<std::int64_t>(graphs - (s.diversity() ? 0 : 1), 0));
  const double copies = checkpoint_blocks ? 0 : WeightCopies(s, checkpoint_blocks);
  return waiting * (GraphBytes(s.config, s.tokens, s.Pass(Role::kGenerator, checkpoint_blocks)) + copies);
}

// `graphs` of the role, which its ranks have in equal shares, as they have its parameters.
MemoryNeed NeedOf(const Setting& s, const Placement& place, int ranks, std::int64_t graphs) {
  const Role role = place.node.role;
  const bool checkpoint_blocks = place.checkpoint_blocks;
  MemoryNeed need;
  const double share = 1.0 / ranks, frozen = (s.half ? 2 : 4) * s.all * share, trained = s.trained * share;
  if (role == Role::kTeacher) {
    need.weights = frozen;
  } else {
    const OptimizerConfig& optimizer = role == Role::kGenerator ? s.e.optimizer.generator : s.e.optimizer.fake_score;
    need.weights = 4 * trained + (s.adapters ? frozen : 0);
    need.gradients = 4 * trained;
    need.optimizer = (optimizer.beta1 == 0 ? 4 : 8) * trained;
    if (role == Role::kGenerator && s.e.ema.decay > 0) need.ema = 4 * trained;
  }
  need.activations = ActivationBytes(s.config, s.tokens, s.Pass(role, checkpoint_blocks));
  if (role == Role::kGenerator) need.activations += WaitingGraphs(s, graphs / ranks, checkpoint_blocks);
  need.buffers = Buffers(s, place, ranks);
  need.runtime = OnCpu(place) ? kCpuRuntime : kCudaRuntime;
  return need;
}

// Of an outer iteration, its share of its role's.
double ForwardEquivalents(const StepCost& cost, const Topology& topology, const NodeName& node) {
  if (node.role == Role::kTeacher) return cost.teachers / static_cast<double>(topology.teacher.replicas);
  return (node.role == Role::kGenerator ? cost.generator : cost.fake_score) / RanksOf(topology, node);
}

bool Computes(Role role) { return role == Role::kGenerator || role == Role::kFakeScore || role == Role::kTeacher; }

// Several topology entries may say what one device has: the least counts.
void AddToDevice(MemoryPlan& memory, const Placement& place, double machine_bytes, double need) {
  const std::string name = place.DeviceOfHost();
  auto device = std::ranges::find(memory.devices, name, &DeviceMemory::device);
  const double said = place.device_memory_gib * kGibibyte;
  if (device == memory.devices.end()) {
    device = memory.devices.insert(device, {name, OnCpu(place) ? machine_bytes : 0, 0});
    if (said > 0) device->has = said;
  } else if (said > 0) {
    device->has = device->has > 0 ? std::min(device->has, said) : said;
  }
  device->need += need;
}

std::string Padded(const std::string& text, int width) {  // negative: to the left
  char padded[160];
  std::snprintf(padded, sizeof padded, "%*s", width, text.c_str());
  return padded;
}

std::string Have(double has) { return has > 0 ? Gigabytes(has) : "unknown"; }

}  // namespace

std::int64_t KeptGraphs(const LaunchPlan& plan) {
  const Experiment& e = plan.experiment;
  const std::int64_t ranks = plan.topology.generator.ranks(),
                     most = e.outer.max_staleness == 0 ? e.data.micro_batches : 0;
  if (ranks > 1 && LandedMicroBatches(e) < e.data.micro_batches) return 0;
  const std::int64_t kept = std::clamp<std::int64_t>(plan.topology.generator.keep_exit_graphs, 0, most);
  return kept / ranks * ranks;  // whole rounds
}

StepCost StepCostOf(const LaunchPlan& plan) {
  const Topology& t = plan.topology;
  const double kept = static_cast<double>(KeptGraphs(plan)) / static_cast<double>(plan.experiment.data.micro_batches);
  const auto recomputes = [](const Topology::TrainedRole& role) { return role.checkpoint_blocks || role.ranks() > 1; };
  return StepCostOf(plan.experiment, recomputes(t.generator), recomputes(t.fake_score), kept);
}

void DecideKeptGraphs(LaunchPlan& plan, const WanConfig& config, double machine_bytes) {
  std::int64_t& keep = plan.topology.generator.keep_exit_graphs;
  if (keep != Topology::kAsManyAsFit) return;
  const std::string name = PlacementOf(plan, {Role::kGenerator}).DeviceOfHost();
  const auto fits = [&] {
    const MemoryPlan memory = PlanMemory(plan, config, machine_bytes);
    const auto device = std::ranges::find(memory.devices, name, &DeviceMemory::device);
    return device->need <= kFilledByGraphs * device->has;
  };
  keep = plan.experiment.data.micro_batches;
  keep = KeptGraphs(plan);
  const std::int64_t ranks = plan.topology.generator.ranks();
  while (keep > 0 && !fits()) keep = std::max<std::int64_t>(keep - ranks, 0);
}

bool MemoryPlan::Fits() const {
  return std::all_of(devices.begin(), devices.end(), [](const DeviceMemory& device) { return device.fits(); });
}

MemoryPlan PlanMemory(const LaunchPlan& plan, const WanConfig& config, double machine_bytes) {
  const Setting setting(plan.experiment, config);
  const double forward = ForwardFlopsOf(config, setting.tokens).total();
  const StepCost cost = StepCostOf(plan);
  std::vector<Placement> placements = Placements(plan);
  const std::vector<std::string> hosts = HostsOf(plan.topology);
  std::ranges::stable_sort(placements, {}, [&](const Placement& p) { return std::ranges::find(hosts, p.host); });
  MemoryPlan memory;
  for (const Placement& place : placements) {
    if (!Computes(place.node.role)) continue;
    const MemoryNeed need = NeedOf(setting, place, RanksOf(plan.topology, place.node), KeptGraphs(plan));
    memory.processes.push_back(
        {Spell(place.node), place.DeviceOfHost(), need, forward * ForwardEquivalents(cost, plan.topology, place.node)});
    if (!OnCpu(place) && place.node.rank == 0)
      memory.waiting.emplace_back(Spell(place.node), WaitingLatents(setting, place.node.role) * setting.LatentBytes());
    AddToDevice(memory, place, machine_bytes, need.total());
  }
  memory.waiting.emplace_back(Spell(Role::kBroker), WaitingLatents(setting, Role::kBroker) * setting.LatentBytes());
  return memory;
}

double MachineMemory() {
  std::istringstream lines(ReadFile("/proc/meminfo"));
  double kib = 0;
  for (std::string line; std::getline(lines, line);) {
    if (std::sscanf(line.c_str(), "MemTotal: %lf kB", &kib) == 1) return kib * 1024;
  }
  return 0;
}

WanConfig ConfigOfModel(const std::filesystem::path& model) { return WanConfig::FromFile(FindModelConfig(model)); }

std::string Gigabytes(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, bytes > 0 && bytes < 0.05e9 ? "%.2f" : "%.1f", bytes / 1e9);
  return text;
}

std::string BalanceText(const MemoryPlan& memory) {
  std::map<std::string, double> by_device;
  for (const ProcessMemory& p : memory.processes) by_device[p.device] += p.step_flops;
  double sum = 0;
  auto busiest = by_device.begin();
  for (auto device = by_device.begin(); device != by_device.end(); ++device) {
    sum += device->second;
    if (device->second > busiest->second) busiest = device;
  }
  if (by_device.size() < 2 || sum == 0) return "";
  const double mean = sum / static_cast<double>(by_device.size());
  char line[160];
  std::snprintf(line, sizeof line,
                "balance %.2f: %.4g TFLOP a step on the busiest device, %s, of %.4g on the mean of %zu\n",
                busiest->second / mean, busiest->second / 1e12, busiest->first.c_str(), mean / 1e12, by_device.size());
  return line;
}

std::string MemoryTable(const MemoryPlan& memory) {
  std::size_t longest = 8;
  for (const DeviceMemory& d : memory.devices) longest = std::max(longest, d.device.size());
  const int width = -static_cast<int>(longest);
  std::string text = StrCat("\n", Padded("memory, GB", -13), " ", Padded("device", width),
                            "  weights  gradients  optimizer    ema  activations  buffers  runtime    total  device has"
                            "  TFLOP/step\n");
  for (const ProcessMemory& p : memory.processes) {
    const auto device =
        std::find_if(memory.devices.begin(), memory.devices.end(), [&](const auto& d) { return d.device == p.device; });
    const MemoryNeed& n = p.need;
    char flops[32];
    std::snprintf(flops, sizeof flops, p.step_flops < 1e13 ? "%.3g" : "%.0f", p.step_flops / 1e12);
    text += Padded(p.process, -13) + " " + Padded(p.device, width) + Padded(Gigabytes(n.weights), 9) +
            Padded(Gigabytes(n.gradients), 11) + Padded(Gigabytes(n.optimizer), 11) + Padded(Gigabytes(n.ema), 7) +
            Padded(Gigabytes(n.activations), 13) + Padded(Gigabytes(n.buffers), 9) + Padded(Gigabytes(n.runtime), 9) +
            Padded(Gigabytes(n.total()), 9) + Padded(Have(device->has), 12) + Padded(flops, 12) + "\n";
  }
  for (const DeviceMemory& d : memory.devices) {
    const auto here = std::count_if(memory.processes.begin(), memory.processes.end(),
                                    [&](const auto& p) { return p.device == d.device; });
    if (here > 1)
      text += StrCat(Padded(StrCat("all ", here), -13), " ", Padded(d.device, width), Padded(Gigabytes(d.need), 78),
                     Padded(Have(d.has), 12), "\n");
  }
  text += BalanceText(memory);
  std::string waiting;
  for (const auto& [process, bytes] : memory.waiting)
    if (!process.starts_with("teacher")) waiting += StrCat(waiting.empty() ? "" : ", ", process, " ", Gigabytes(bytes));
  return text + StrCat("samples on their way, GB of main memory at most: ", waiting, "\n");
}

}  // namespace sgmd
