// What is advised where a plan does not fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/launch/memory_plans.h"
#include "tests/support/real_config.h"

namespace sgmd {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(MemoryAdvice, AdviceTriesTheCheapestFirstAndStopsWhereItFits) {
  LaunchPlan plan = PlanFor(kLatent480p, 79);
  plan.experiment.data.micro_batch = 4;
  const std::string checkpointing = OversizeAdvice(plan, kWan1_3B, 0);
  EXPECT_THAT(checkpointing, HasSubstr("cuda:0 (generator) needs"));
  EXPECT_THAT(checkpointing, HasSubstr("1. [generator] and [fake_score] checkpoint_blocks = true"));
  EXPECT_THAT(checkpointing, HasSubstr("it fits"));
  EXPECT_THAT(checkpointing, Not(HasSubstr("2. ")));
  plan.experiment.data.micro_batch = 12;
  EXPECT_THAT(OversizeAdvice(plan, kWan1_3B, 0),
              HasSubstr("2. [data] micro_batch = 1, micro_batches = 12  (the same batch in smaller "
                        "pieces): it fits"));
  EXPECT_EQ(OversizeAdvice(Checkpointed(PlanFor(kLatent480p, 79)), kWan1_3B, 0), "");
}

TEST(MemoryAdvice, FullyTrained14BNeedsAdaptersOnAnyGpuOfToday) {
  const LaunchPlan plan = Checkpointed(PlanFor(kLatent480p, 79));
  const std::string advice = OversizeAdvice(plan, kWan14B, 0);
  EXPECT_THAT(advice, HasSubstr("1. [lora] rank = 64"));
  EXPECT_THAT(advice, HasSubstr("it fits"));
  LaunchPlan wide = plan;
  wide.experiment.precision.compute = Compute::kFloat32;
  EXPECT_THAT(OversizeAdvice(wide, kWan14B, 0),
              testing::AllOf(HasSubstr("1. [lora] rank = 64"), HasSubstr("2. [precision] compute = \"bfloat16\"")));
}

TEST(MemoryAdvice, WhatNoSettingHelpsNeedsALargerDevice) {
  LaunchPlan plan = Checkpointed(PlanFor(kLatent720p, 79));
  plan.experiment.lora.rank = 64;
  EXPECT_THAT(OversizeAdvice(plan, kWan14B, 0), testing::AllOf(HasSubstr("1. a device of at least"),
                                                               HasSubstr("or several that share a role: [generator]")));
  plan.topology.generator.device_memory_gib = plan.topology.fake_score.device_memory_gib = 139;
  EXPECT_EQ(OversizeAdvice(plan, kWan14B, 0), "");
}

// A teacher of 14B and students of 1.3B.
TEST(MemoryAdvice, ATeacherThatItsGpuCannotHoldIsOffloadedFirstWhereThatTakesNoTime) {
  LaunchPlan plan =
      LoadLaunchPlan(SGMD_SOURCE_DIR "/launch/topologies/wan2.1-t2v-14b-to-1.3b-8x80gb.toml", RequiredFiles::kNone);
  plan.topology = Checkpointed(PlanFor(kLatent480p, 79)).topology;
  plan.topology.teacher.device_memory_gib = 23;
  plan.topology.generator.keep_exit_graphs = 0;
  const RoleConfigs configs(plan.experiment);
  EXPECT_THAT(OversizeAdvice(plan, configs, 0),
              testing::AllOf(HasSubstr("cuda:2 (teacher.0) needs"),
                             HasSubstr("1. [teacher] offload = true  (28.1 GB of main memory a teacher, and no time: "
                                       "copying takes 1.1 s of a pass, computing 8.4 s): it fits\n")));
  plan.experiment.data.latent = {16, 1, 8, 8};
  EXPECT_THAT(OversizeAdvice(plan, configs, 0),
              HasSubstr("1. [teacher] offload = true  (28.1 GB of main memory a teacher, and time: copying takes 1.1 s "
                        "of a pass, computing 0.0"));
  plan.topology.teacher.device_memory_gib = 1;
  const std::string advice = OversizeAdvice(plan, configs, 0);
  EXPECT_THAT(advice, testing::AllOf(HasSubstr("1. [teacher] offload = true"), HasSubstr("GB needed where 1.1 are"),
                                     HasSubstr("a device of at least")));
  plan.topology.teacher.ranks = 2;
  plan.topology.teacher.devices = {"cuda:2", "cuda:3"};
  EXPECT_THAT(OversizeAdvice(plan, configs, 0), Not(HasSubstr("offload")));
}

TEST(MemoryAdvice, KeepsGroupsTogetherThatShareTokens) {
  LaunchPlan plan = Checkpointed(PlanFor(kLatent480p, 79));
  plan.topology.generator.devices = plan.topology.fake_score.devices = {"cuda:0", "cuda:1"};
  plan.topology.teacher.device = "cuda:0";
  plan.experiment.sequence_parallel.generator = plan.experiment.sequence_parallel.fake_score = 2;
  EXPECT_THAT(OversizeAdvice(plan, kWan14B, 0), HasSubstr("1. a device each for generator, fake_score, teacher.0"));
}

TEST(MemoryAdvice, TheEmbeddedRunFitsALaptop) {
  const LaunchPlan plan = LoadLaunchPlan(SGMD_SOURCE_DIR "/launch/topologies/laptop.toml");
  const RoleConfigs config(plan.experiment);
  EXPECT_EQ(OversizeAdvice(plan, config, 24 * kGibibyte), "");
  EXPECT_EQ(OversizeAdvice(plan, config, 4 * kGibibyte), "");
}

}  // namespace
}  // namespace sgmd
