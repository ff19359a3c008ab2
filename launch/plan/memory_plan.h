// Whether a plan fits the memory of its devices, and what to change where it does not. From sizes alone: no weights are
// read.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/config/topology.h"
#include "pipeline/models/role_configs.h"
#include "pipeline/training/step_cost.h"

namespace sgmd {

inline constexpr double kGibibyte = 1024.0 * 1024 * 1024;

/// Bytes of one process on its device. P parameters of its role's model, A those that are trained (all, or the
/// adapters), B samples of a micro-batch. In a group of n ranks each has 1/n of P and A. Of two experts (Wan2.2-A14B) P
/// is of those that the role holds, A of those that it trains, but gradients are of one unless the diversity loss adds
/// its own.
struct MemoryNeed {
  double weights = 0;  // teacher, and the frozen base of adapters: 2 P (bfloat16) or 4 P; trained: 4 A (wan_facts §7);
                       // of an offloaded teacher what is outside of the blocks, and two of them for each transformer
  double gradients = 0;    // 4 A
  double optimizer = 0;    // 4 A with beta1 = 0, else 8 A (wan_facts §5 "Optim"): with the above 12 or 16 bytes each
  double ema = 0;          // generator with [ema] decay > 0: 4 A
  double activations = 0;  // ActivationBytes of B samples (wan_size.h); the teacher runs 2 B where guidance is not 1;
                           // of the generator also the graphs of exit steps that are kept
  double buffers = 0;      // latents, text embeddings, rotation table, copies of weights in the compute dtype; of a
                           // rank what is gathered and exchanged of the others' shards; on a GPU attention's workspace
  double runtime = 0;      // a constant: CUDA context, kernels and workspaces, or LibTorch in a process on the CPU
  double total() const { return weights + gradients + optimizer + ema + activations + buffers + runtime; }
};

struct ProcessMemory {
  std::string process;  // generator, generator/1, fake_score, teacher.N
  std::string device;   // "cuda" is written cuda:0; where the topology names hosts, host/device
  MemoryNeed need;
  double step_flops = 0;  // of an outer iteration, a mean over the run: StepCost times the forward pass (wan_facts §7)
};

/// One device and the processes on it together.
struct DeviceMemory {
  std::string device;
  double has = 0;   // bytes; 0 = not known
  double need = 0;  // bytes
  bool fits() const { return has == 0 || need <= has; }
};

struct MemoryPlan {
  std::vector<ProcessMemory> processes;
  std::vector<DeviceMemory> devices;
  /// Bytes of samples, scores and anchors on their way in the main memory of the broker, and of each process on a GPU;
  /// of one on the CPU they are in `buffers`. At most (1 + max_staleness) micro_batches are on their way.
  std::vector<std::pair<std::string, double>> waiting;
  /// Bytes of weights in the main memory of each teacher where they are offloaded ([teacher] offload), else 0.
  double offloaded = 0;
  bool Fits() const;
};

/// Of the processes that compute, and of an evaluator on a GPU; the broker, and an evaluator on the CPU, are small.
/// `machine_bytes`: memory of the machine, which is that of the device cpu, of every host, unless the topology says
/// otherwise; 0 = not known. Host by host. Throws Error when the experiment's latent does not fit the model.
MemoryPlan PlanMemory(const LaunchPlan& plan, const RoleConfigs& configs, double machine_bytes);

/// Decides what is kept in place of being computed again where the topology leaves that to the plan: first attentions
/// (keep_attention of both trained roles), which save most for a byte; then [generator] keep_exit_graphs and
/// keep_blocks of both roles, as many as fit of one after the other. A graph of an exit step saves one forward pass of
/// a step for little more than the inputs of its blocks. A block saves a small part of every training pass of a step,
/// for some fifteen times the bytes of its input, and for as many again with every graph that waits. So it depends on
/// how many micro-batches a rank has which of them comes first: of all orders the one is taken that leaves least work.
/// The devices of the role's ranks, whose memory must be known, have room for it beside everything else on them, a
/// tenth of each left free. `machine_bytes` as above.
void DecideWhatIsKept(LaunchPlan& plan, const RoleConfigs& configs, double machine_bytes);

/// Micro-batches of a step whose exit step is not run again; -1 in the topology counts as none. None of a pipelined
/// run, whose rollouts are mostly older than the weights. Of a group whole rounds (GeneratorNode::KeepsGraphs).
std::int64_t KeptGraphs(const LaunchPlan& plan);

/// Blocks of a trained role's model whose graph is kept where the others run again; -1 in the topology counts as none.
std::int64_t KeptBlocks(const LaunchPlan& plan, const RoleConfigs& configs, Role role);

/// What a step of the plan's experiment costs with the topology's choices of what is kept.
StepCost StepCostOf(const LaunchPlan& plan, const RoleConfigs& configs);

/// Bytes of all blocks of one transformer of the teacher: what a pass copies to its device with [teacher] offload.
double TeacherBlockBytes(const LaunchPlan& plan, const RoleConfigs& configs);

/// MemTotal of /proc/meminfo, in bytes.
double MachineMemory();

/// "12.3", in GB = 10^9 bytes.
std::string Gigabytes(double bytes);

/// The work of a step on the busiest device over that of the mean: 1 is an even split. A line; empty for one device.
std::string BalanceText(const MemoryPlan& memory);

/// A line a process (GB, and TFLOP of a step), and where several share a device, a line for that device.
std::string MemoryTable(const MemoryPlan& memory);

/// What to change, in order of cost, each with what is needed after it and all before it, up to the first that makes
/// the plan fit: devices of their own, an offloaded teacher whose copies hide behind its work, activation
/// checkpointing, smaller micro-batches, an offloaded teacher that waits for its copies, adapters, bfloat16, larger
/// devices. Empty when it fits.
std::string OversizeAdvice(const LaunchPlan& plan, const RoleConfigs& configs, double machine_bytes);

}  // namespace sgmd
