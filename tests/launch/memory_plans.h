// Plans of real models, whose memory is asked for.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "launch/plan/memory_plan.h"

namespace sgmd {

// The recipe in bfloat16 on a GPU for each role.
inline LaunchPlan PlanFor(const std::vector<std::int64_t>& latent, double gib) {
  LaunchPlan plan;
  plan.experiment.data.latent = latent;
  plan.experiment.model.guidance = 3.0;
  plan.experiment.precision.compute = Compute::kBfloat16;
  Topology& t = plan.topology;
  t.generator.device = "cuda:0";
  t.fake_score.device = "cuda:1";
  t.teacher.device = "cuda:2";
  t.generator.device_memory_gib = t.fake_score.device_memory_gib = t.teacher.device_memory_gib = gib;
  return plan;
}

inline LaunchPlan Checkpointed(LaunchPlan plan) {
  plan.topology.generator.checkpoint_blocks = plan.topology.fake_score.checkpoint_blocks = true;
  return plan;
}

inline ProcessMemory Find(const MemoryPlan& memory, const std::string& process) {
  for (const ProcessMemory& p : memory.processes) {
    if (p.process == process) return p;
  }
  ADD_FAILURE() << "no process " << process;
  return {};
}

}  // namespace sgmd
