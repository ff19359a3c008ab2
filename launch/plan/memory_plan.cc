#include "launch/plan/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <sstream>

#include "common/config/placement.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/model_folder.h"
#include "pipeline/models/role_experts.h"
#include "pipeline/models/wan_size.h"

namespace sgmd {
namespace {

// Stated, not computed. CUDA: context and loaded kernels, cuBLAS and cuDNN workspaces. CPU: the pages of LibTorch in
// use.
constexpr double kCudaRuntime = 1.0e9, kCpuRuntime = 0.3e9;
// A Wan VAE decodes a latent frame at a time in float32: its parameters and what is kept between frames, and at once
// about so many tensors as wide as its last upsampling gives (wan_facts §3). Stated, not measured on a GPU.
constexpr double kVae21 = 0.8e9, kVae22 = 3.3e9, kDecodingTensors = 4;

// Latents of a micro-batch at work in a role at once: noise, inputs, outputs, samples, gradients; pairs with guidance.
constexpr double kWorkingLatents = 8;

bool OnCpu(const Placement& place) { return place.device.kind == Device::Kind::kCpu; }

// Of the VAE with a chunk of four frames on its way, or of a tile of them (`tile` pixels a side; 0: whole frames).
double DecodingBytes(const WanConfig& config, const std::vector<std::int64_t>& latent, std::int64_t tile) {
  const bool large = config.out_dim == 48;
  const double side = large ? 16 : 8, channels = large ? 256 : 192, frames = 4;
  const auto extent = [&](std::int64_t latent_pixels) {
    const double whole = side * static_cast<double>(latent_pixels);
    return tile > 0 ? std::min(whole, static_cast<double>(tile)) : whole;
  };
  const double pixels = frames * extent(latent[2]) * extent(latent[3]) / (large ? 4 : 1);
  return 4 * pixels * channels * kDecodingTensors + (large ? kVae22 : kVae21);
}

// What the experiment says about sizes, in one place.
struct Setting {
  const Experiment& e;
  const WanConfig& config;
  double all, trained;  // parameters of one transformer
  Transformers transformers;
  std::int64_t tokens;
  bool adapters, half;  // [lora], bfloat16

  Setting(const Experiment& experiment, const RoleConfigs& configs, Role role)
      : e(experiment),
        config(configs.Of(role)),
        all(static_cast<double>(ParameterCount(config))),
        trained(all),
        transformers(configs.TransformersOf(role)),
        tokens(TokenCount(config, experiment.data.latent)),
        adapters(experiment.lora.rank > 0),
        half(experiment.precision.compute == Compute::kBfloat16) {
    if (adapters) trained = static_cast<double>(LoraParameterCount(config, e.lora.rank, e.lora.targets));
  }

  bool diversity() const { return e.diversity.weight > 0; }
  double Block() const { return static_cast<double>(BlockParameterCount(config)); }
  double Blocks() const { return static_cast<double>(config.num_layers) * Block(); }
  double Outside() const { return all - Blocks(); }  // of the blocks
  double LatentBytes() const {                       // of a micro-batch, float32 (wan_facts §7 "Bytes")
    double bytes = 4 * static_cast<double>(e.data.micro_batch);
    for (const std::int64_t extent : e.data.latent) bytes *= static_cast<double>(extent);
    return bytes;
  }
  // Samples in a pass of the role, and the pass that needs most.
  PassSettings Pass(Role role, const Placement& place) const {
    PassSettings pass;
    pass.samples = e.data.micro_batch * (role == Role::kTeacher && GuidanceOf(e).Guides() ? 2 : 1);
    pass.compute_bytes = half ? 2 : 4;
    pass.checkpoint_blocks = place.checkpoint_blocks;
    pass.keep_attention = place.keep_attention;
    pass.keep_blocks = place.keep_blocks;
    pass.twice = role == Role::kFakeScore && e.inner.source == InnerSource::kPaired;
    pass.lora_rank = adapters ? e.lora.rank : 0;
    pass.kernels = e.precision.kernels;
    pass.backward = role == Role::kTeacher ? Backward::kNone : adapters ? Backward::kAdapters : Backward::kFull;
    return pass;
  }
};

// Weights that the graph of a pass holds on to: where they are kept in float32 and used in bfloat16, the copies of all
// blocks that do not run again; of a rank of a group, what was gathered of those that are kept.
double GraphWeights(const Setting& s, const Placement& place, int ranks) {
  const double layers = static_cast<double>(s.config.num_layers),
               again = static_cast<double>(BlocksAgain(s.config, s.Pass(place.node.role, place))), block = s.Block();
  if (ranks > 1) return (s.half ? 2 : 4) * (layers - again) * (block + (s.adapters ? s.trained / layers : 0));
  if (s.adapters || !s.half) return 0;  // the base is kept in the compute dtype
  return 2 * (again > 0 ? (layers - again) * block : s.all);
}

// Of a rank of a group: what is outside of the blocks, which stays gathered for a pass, and blocks: the one that runs,
// or in its place those that are kept; of the one whose gradients are exchanged also those, as they are sent and as
// they come (pipeline/parallel/sharded_parameters.h).
double GatherBuffers(const Setting& s, const Placement& place, int ranks) {
  const Role role = place.node.role;
  const double bytes = s.half ? 2 : 4, block = s.Block(), root = s.Outside();
  if (role == Role::kTeacher) return bytes * (root + block);
  const double exchanged = s.adapters ? s.trained / static_cast<double>(s.config.num_layers) : std::max(block, root);
  const double kept = GraphWeights(s, place, ranks), runs = bytes * block;
  const bool twice = s.Pass(role, place).twice;
  return bytes * (root + 3 * exchanged) + (twice ? runs + kept : std::max(runs, kept));
}

// Of a whole model; of a block that is run again its copies (wan_facts §7 "gather buffers") and its gradients, which
// are returned together. By then what blocks kept is let go, unless the pass goes back twice.
double WeightCopies(const Setting& s, const Placement& place) {
  const PassSettings pass = s.Pass(place.node.role, place);
  const double of_graph = GraphWeights(s, place, /*ranks=*/1);
  if (s.adapters || BlocksAgain(s.config, pass) == 0) return of_graph;
  const double again = (s.half ? 2 + 4 : 4) * s.Block();
  return pass.twice ? of_graph + again : std::max(of_graph, again);
}

// Micro-batches whose gradients are on their way, at most.
double InFlight(const Setting& s) {
  return static_cast<double>(s.e.data.micro_batches * (1 + s.e.outer.max_staleness));
}

// Latents of micro-batches that wait in a process's main memory: messages until they are dealt with, and what they were
// made of.
double WaitingLatents(const Setting& s, Role role, int ranks = 1) {
  const double in_flight = InFlight(s), score = s.e.precision.scores == Compute::kBfloat16 ? 0.5 : 1;
  const double anchors = s.diversity() ? 2 : 0;                    // noise and x_a
  if (role == Role::kTeacher) return 2 * ranks;                    // leases
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
  const PassSettings pass = s.Pass(role, place);
  const double text =
      static_cast<double>(pass.samples * s.config.text_len * s.config.text_dim) * (4 + (s.half ? 2 : 0));
  const double rope = 8 * static_cast<double>(s.tokens * s.config.head_dim() / 2);  // complex64
  const double exits = role == Role::kGenerator && speaks ? InFlight(s) : 0;        // inputs of exit steps
  const double waiting = OnCpu(place) && speaks ? WaitingLatents(s, role, ranks) : 0;
  const double copies = ranks > 1                ? GatherBuffers(s, place, ranks)
                        : role == Role::kTeacher ? 0
                                                 : WeightCopies(s, place);
  return (kWorkingLatents + exits + waiting) * s.LatentBytes() + text + rope + copies;
}

// Of the backward pass of attention, on a GPU in bfloat16. Ranks that share tokens have all of them of their heads.
double AttentionWorkspace(const Setting& s, const Placement& place, int sharing) {
  if (OnCpu(place) || !s.half || place.node.role == Role::kTeacher) return 0;
  return AttentionWorkspaceBytes(s.config, s.tokens, s.e.data.micro_batch, s.config.num_heads / sharing,
                                 s.e.precision.deterministic);
}

// Of `graphs` exit steps that are kept, those that wait while a pass runs: all, or all but the one whose backward pass
// it is. Each has its own copies of weights.
double WaitingGraphs(const Setting& s, std::int64_t tokens, std::int64_t graphs, const Placement& place, int ranks) {
  const double waiting = static_cast<double>(std::max<std::int64_t>(graphs - (s.diversity() ? 0 : 1), 0));
  return waiting * (GraphBytes(s.config, tokens, s.Pass(Role::kGenerator, place)) + GraphWeights(s, place, ranks));
}

// The ranks of a role have its parameters, kept graphs and, where they share tokens, activations in equal shares.
MemoryNeed NeedOf(const Setting& s, const LaunchPlan& plan, const Placement& place) {
  const Role role = place.node.role;
  const int ranks = RanksOf(plan.topology, place.node), sharing = SequenceRanksOf(plan.experiment, place.node);
  const std::int64_t tokens = (s.tokens + sharing - 1) / sharing;  // of a rank
  MemoryNeed need;
  const auto& [all, held, trains] = s.transformers;
  const double share = 1.0 / ranks, frozen = (s.half ? 2 : 4) * s.all * share, trained = trains * s.trained * share;
  if (role == Role::kTeacher) {
    need.weights = held * (place.offload ? (s.half ? 2 : 4) * (s.Outside() + 2 * s.Block()) : frozen);
  } else {
    const OptimizerConfig& optimizer = role == Role::kGenerator ? s.e.optimizer.generator : s.e.optimizer.fake_score;
    need.weights = 4 * trained + (s.adapters ? held : held - trains) * frozen;
    need.gradients = 4 * (s.diversity() ? trained : trained / trains);  // of two experts an update is of one
    need.optimizer = (optimizer.beta1 == 0 ? 4 : 8) * trained;
    if (role == Role::kGenerator && s.e.ema.decay > 0) need.ema = 4 * trained;
  }
  need.activations = ActivationBytes(s.config, tokens, s.Pass(role, place));
  if (role == Role::kGenerator)
    need.activations += WaitingGraphs(s, tokens, KeptGraphs(plan) / RoundOf(plan, place.node), place, ranks);
  need.buffers = Buffers(s, place, ranks) + AttentionWorkspace(s, place, sharing);
  need.runtime = OnCpu(place) ? kCpuRuntime : kCudaRuntime;
  return need;
}

// Of an outer iteration, its share of its role's.
double ForwardEquivalents(const StepCost& cost, const Topology& topology, const NodeName& node) {
  if (node.role == Role::kTeacher)
    return cost.teachers / static_cast<double>(topology.teacher.replicas * topology.teacher.ranks);
  return (node.role == Role::kGenerator ? cost.generator : cost.fake_score) / RanksOf(topology, node);
}

// Of an evaluator on a GPU: the larger of the networks that are there one after the other, the VAE, and a chunk of
// frames on its way through the VAE.
MemoryNeed NeedOfEvaluator(const Setting& teacher, const Setting& student, const Placement& place,
                           std::int64_t vae_tile) {
  MemoryNeed need;
  need.weights =
      (teacher.half ? 2 : 4) * std::max(teacher.transformers.all * teacher.all, student.transformers.all * student.all);
  need.activations = std::max(ActivationBytes(teacher.config, teacher.tokens, teacher.Pass(Role::kTeacher, place)),
                              DecodingBytes(teacher.config, teacher.e.data.latent, vae_tile));
  need.runtime = kCudaRuntime;
  return need;
}

// Of those on the CPU the evaluator and the broker are left out: they are small.
bool IsPlanned(const Placement& place) {
  const Role role = place.node.role;
  return role == Role::kGenerator || role == Role::kFakeScore || role == Role::kTeacher ||
         (role == Role::kEvaluator && !OnCpu(place));
}

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

}  // namespace

bool MemoryPlan::Fits() const {
  return std::all_of(devices.begin(), devices.end(), [](const DeviceMemory& device) { return device.fits(); });
}

MemoryPlan PlanMemory(const LaunchPlan& plan, const RoleConfigs& configs, double machine_bytes) {
  const StepCost cost = StepCostOf(plan, configs);
  std::vector<Placement> placements = Placements(plan);
  const std::vector<std::string> hosts = HostsOf(plan.topology);
  std::ranges::stable_sort(placements, {}, [&](const Placement& p) { return std::ranges::find(hosts, p.host); });
  MemoryPlan memory;
  for (const Placement& place : placements) {
    if (!IsPlanned(place)) continue;
    const Setting setting(plan.experiment, configs, place.node.role);
    if (place.node.role == Role::kEvaluator) {
      const MemoryNeed need = NeedOfEvaluator(setting, Setting(plan.experiment, configs, Role::kGenerator), place,
                                              plan.topology.evaluator.vae_tile);
      memory.processes.push_back({Spell(place.node), place.DeviceOfHost(), need, 0});
      AddToDevice(memory, place, machine_bytes, need.total());
      continue;
    }
    const double forward = ForwardFlopsOf(setting.config, setting.tokens).total();
    const MemoryNeed need = NeedOf(setting, plan, place);
    memory.processes.push_back(
        {Spell(place.node), place.DeviceOfHost(), need, forward * ForwardEquivalents(cost, plan.topology, place.node)});
    if (!OnCpu(place) && place.node.rank == 0)
      memory.waiting.emplace_back(
          Spell(place.node),
          WaitingLatents(setting, place.node.role, RanksOf(plan.topology, place.node)) * setting.LatentBytes());
    AddToDevice(memory, place, machine_bytes, need.total());
  }
  const Setting setting(plan.experiment, configs, Role::kTeacher);  // latents are of one size for all
  memory.waiting.emplace_back(Spell(Role::kBroker), WaitingLatents(setting, Role::kBroker) * setting.LatentBytes());
  if (plan.topology.teacher.offload) memory.offloaded = setting.transformers.held * TeacherBlockBytes(plan, configs);
  return memory;
}

double TeacherBlockBytes(const LaunchPlan& plan, const RoleConfigs& configs) {
  const Setting setting(plan.experiment, configs, Role::kTeacher);
  return (setting.half ? 2 : 4) * setting.Blocks();
}

double MachineMemory() {
  std::istringstream lines(ReadFile("/proc/meminfo"));
  double kib = 0;
  for (std::string line; std::getline(lines, line);) {
    if (std::sscanf(line.c_str(), "MemTotal: %lf kB", &kib) == 1) return kib * 1024;
  }
  return 0;
}

}  // namespace sgmd
