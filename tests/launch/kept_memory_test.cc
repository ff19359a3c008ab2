// What is kept where memory allows, in place of being computed again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/models/wan_size.h"
#include "tests/launch/memory_plans.h"
#include "tests/support/real_config.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

LaunchPlan WithoutKeptBlocks(LaunchPlan plan) {
  plan.topology.generator.keep_blocks = plan.topology.fake_score.keep_blocks = 0;
  return plan;
}

TEST(KeptMemory, AsManyExitGraphsAreKeptAsFitWhereTheRunIsStrict) {
  LaunchPlan plan = WithoutKeptBlocks(Checkpointed(PlanFor(kLatent480p, 79)));
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
  LaunchPlan plan = WithoutKeptBlocks(Checkpointed(PlanFor(kLatent480p, 79)));
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

// What a block that is kept needs and saves: all that its backward pass reads and the copies of its weights, in place
// of its input.
TEST(KeptMemory, AsManyBlocksAreKeptAsFit) {
  LaunchPlan plan = Checkpointed(PlanFor(kLatent480p, 79));
  plan.topology.generator.keep_attention = plan.topology.fake_score.keep_attention = Keep::kNever;
  plan.topology.generator.keep_exit_graphs = 0;
  const auto decided = [](LaunchPlan of) {
    DecideWhatIsKept(of, kWan1_3B, 0);
    return of.topology;
  };
  const auto generator = [&](std::int64_t blocks) {
    plan.topology.generator.keep_blocks = blocks;
    return Find(PlanMemory(plan, kWan1_3B, 0), "generator");
  };
  const double block = 2 * BlockSavedElements(kWan1_3B, 32760, Backward::kFull).narrow +
                       4 * BlockSavedElements(kWan1_3B, 32760, Backward::kFull).wide +
                       2 * static_cast<double>(BlockParameterCount(kWan1_3B)) -
                       CheckpointBytes(kWan1_3B, 32760, 1, 2) / 30;
  const double forward = ForwardFlopsOf(kWan1_3B, 32760).total();
  EXPECT_NEAR(generator(7).need.total() - generator(4).need.total(), 3 * block, 1);
  EXPECT_LT(generator(1).need.total(), generator(0).need.total()) << "let go before another block runs again";
  EXPECT_NEAR(generator(0).step_flops - generator(6).step_flops, 0.2 * forward, 1e6);
  EXPECT_NEAR(generator(0).step_flops - generator(1000).step_flops, forward, 1e6);

  plan.topology.generator.keep_blocks = Topology::kAsManyAsFit;
  const std::int64_t fit = decided(plan).generator.keep_blocks;
  EXPECT_GT(fit, 3);
  EXPECT_LT(fit, 30);
  const double room = 0.9 * 79 * kGibibyte;
  EXPECT_LE(generator(fit).need.total(), room);
  EXPECT_GT(generator(fit + 1).need.total(), room);
  plan.topology.generator.keep_blocks = Topology::kAsManyAsFit;
  LaunchPlan large = plan, whole = plan, unknown = plan, said = plan;
  large.topology.generator.device_memory_gib = 200;
  EXPECT_EQ(decided(large).generator.keep_blocks, 30);
  whole.topology.generator.checkpoint_blocks = false;
  unknown.topology.generator.device_memory_gib = 0;
  said.topology.generator.keep_blocks = 0;
  for (const LaunchPlan& other : {whole, unknown, said}) EXPECT_EQ(decided(other).generator.keep_blocks, 0);
  said.topology.generator.keep_blocks = 29;
  EXPECT_THAT(OversizeAdvice(said, kWan1_3B, 0), HasSubstr("1. [generator] and [fake_score] keep_blocks = 0"));
}

// Blocks of a rank keep what was gathered of them, too, and the graph of every exit step that waits has its own.
TEST(KeptMemory, BlocksOfAGroupKeepGatheredWeightsInEveryGraph) {
  LaunchPlan plan = PlanFor(kLatent480p, 79);
  plan.experiment.data.micro_batches = 8;
  plan.topology.generator.devices = {"cuda:0", "cuda:3"};
  plan.topology.generator.keep_exit_graphs = 8;
  const auto need = [&](std::int64_t blocks) {
    plan.topology.generator.keep_blocks = blocks;
    return Find(PlanMemory(plan, kWan1_3B, 0), "generator/1").need.total();
  };
  const SavedElements saved = BlockSavedElements(kWan1_3B, 32760, Backward::kFull);
  const double block = 2 * saved.narrow + 4 * saved.wide + 2 * static_cast<double>(BlockParameterCount(kWan1_3B)) -
                       CheckpointBytes(kWan1_3B, 32760, 1, 2) / 30;
  EXPECT_NEAR(need(5) - need(2), 4 * 3 * block, 1);
}

// Graphs are worth more for their bytes, unless a rank has so many micro-batches that a block is kept for all of them.
TEST(KeptMemory, WhatSavesMoreIsKeptFirst) {
  LaunchPlan plan = Checkpointed(PlanFor(kLatent480p, 79));
  plan.topology.generator.keep_attention = plan.topology.fake_score.keep_attention = Keep::kNever;
  const auto work = [](const LaunchPlan& of) { return Find(PlanMemory(of, kWan1_3B, 0), "generator").step_flops; };
  for (const std::int64_t micro_batches : {4, 256}) {
    plan.experiment.data.micro_batches = micro_batches;
    LaunchPlan free = plan, graphs = plan, blocks = plan;
    graphs.topology.generator.keep_blocks = blocks.topology.generator.keep_exit_graphs = 0;
    for (LaunchPlan* each : {&free, &graphs, &blocks}) {
      DecideWhatIsKept(*each, kWan1_3B, 0);
      for (const DeviceMemory& device : PlanMemory(*each, kWan1_3B, 0).devices)
        EXPECT_LE(device.need, 0.9 * device.has) << device.device;
    }
    EXPECT_EQ(micro_batches == 4, work(graphs) < work(blocks));
    EXPECT_LE(work(free), std::min(work(graphs), work(blocks)));
  }
}

}  // namespace
}  // namespace sgmd
