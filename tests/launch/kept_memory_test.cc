// What is kept where memory allows, in place of being computed again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/models/wan_size.h"
#include "tests/launch/memory_plans.h"
#include "tests/support/real_config.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

TEST(KeptMemory, AsManyExitGraphsAreKeptAsFitWhereTheRunIsStrict) {
  LaunchPlan plan = Checkpointed(PlanFor(kLatent480p, 79));
  plan.experiment.data.micro_batches = 4;
  plan.topology.generator.keep_attention = plan.topology.fake_score.keep_attention = Keep::kNever;
  const auto decided = [](LaunchPlan of) {
    DecideWhatIsKept(of, kWan1_3B, 0);
    return of;
  };
  const auto count = [&](const LaunchPlan& of) { return decided(of).topology.generator.keep_exit_graphs; };
  const MemoryNeed before = Find(PlanMemory(plan, kWan1_3B, 0), "generator").need;
  const LaunchPlan kept = decided(plan);
  ASSERT_EQ(count(plan), 4);
  const PassSettings pass{.backward = Backward::kFull, .compute_bytes = 2, .checkpoint_blocks = true};
  const MemoryPlan memory = PlanMemory(kept, kWan1_3B, 0);
  EXPECT_NEAR(Find(memory, "generator").need.total() - before.total(), 3 * GraphBytes(kWan1_3B, 32760, pass), 1);
  EXPECT_NEAR(Find(PlanMemory(plan, kWan1_3B, 0), "generator").step_flops - Find(memory, "generator").step_flops,
              4 * ForwardFlopsOf(kWan1_3B, 32760).total(), 1e6);
  EXPECT_EQ(Find(memory, "fake_score").need.total(), Find(PlanMemory(plan, kWan1_3B, 0), "fake_score").need.total());

  LaunchPlan large = plan, unknown = plan, pipelined = plan, said = plan;
  large.experiment.data.micro_batches = 64;
  const std::int64_t fit = count(large);
  EXPECT_GT(fit, 4);
  EXPECT_LT(fit, 64);
  const auto filled = [&](std::int64_t graphs) {
    large.topology.generator.keep_exit_graphs = graphs;
    const DeviceMemory device = PlanMemory(large, kWan1_3B, 0).devices.front();
    return device.need / device.has;
  };
  EXPECT_LE(filled(fit), 0.9);
  EXPECT_GT(filled(fit + 1), 0.9);
  EXPECT_GT(filled(64), 1);
  EXPECT_THAT(OversizeAdvice(large, kWan1_3B, 0), HasSubstr("1. [generator] keep_exit_graphs = 0"));
  unknown.topology.generator.device_memory_gib = 0;
  pipelined.experiment.outer.max_staleness = 1;
  said.topology.generator.keep_exit_graphs = 0;
  for (const LaunchPlan& other : {unknown, pipelined, said}) EXPECT_EQ(count(other), 0);
}

TEST(KeptMemory, AttentionIsKeptWhereItFitsAndBlocksRunAgain) {
  LaunchPlan plan = Checkpointed(PlanFor(kLatent480p, 79));
  plan.topology.generator.keep_exit_graphs = 0;
  const double without = Find(PlanMemory(plan, kWan1_3B, 0), "fake_score").need.total();
  plan.topology.fake_score.device_memory_gib = 1.01 * without / 0.9 / kGibibyte;
  const auto decided = [](LaunchPlan of) {
    DecideWhatIsKept(of, kWan1_3B, 0);
    return of.topology;
  };
  const auto need = [](const LaunchPlan& of) { return Find(PlanMemory(of, kWan1_3B, 0), "generator"); };
  EXPECT_EQ(decided(plan).generator.keep_attention, Keep::kAlways);
  EXPECT_EQ(decided(plan).fake_score.keep_attention, Keep::kNever);  // it would fill more than nine tenths

  LaunchPlan kept = plan, whole = plan, unknown = plan, single = plan, fast = plan;
  kept.topology.generator.keep_attention = Keep::kAlways;
  const double bytes = CheckpointBytes(kWan1_3B, 32760, 1, 2) + 4.0 * 32760 * 12 * 30;
  EXPECT_NEAR(need(kept).need.total() - need(plan).need.total(), bytes, 1);
  EXPECT_NEAR(need(plan).step_flops - need(kept).step_flops, ForwardFlopsOf(kWan1_3B, 32760).self_attention, 1e9);
  whole.topology.generator.checkpoint_blocks = false;
  unknown.topology.generator.device_memory_gib = 0;
  single.experiment.precision.compute = Compute::kFloat32;
  fast.experiment.precision.deterministic = false;
  for (const LaunchPlan& other : {whole, unknown, single, fast})
    EXPECT_EQ(decided(other).generator.keep_attention, Keep::kNever);
}

}  // namespace
}  // namespace sgmd
