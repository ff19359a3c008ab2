// The bytes of wan_facts §7.
#include "launch/plan/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/error/error.h"
#include "launch/plan/disk_plan.h"
#include "launch/plan/time_plan.h"
#include "pipeline/models/wan_size.h"
#include "tests/launch/memory_plans.h"
#include "tests/support/real_config.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

std::string Trained(const MemoryNeed& need) { return Gigabytes(need.weights + need.gradients + need.optimizer); }

TEST(MemoryPlan, WeightsAndOptimizersOfTheTable) {
  struct Row {
    WanConfig config;
    std::vector<std::int64_t> latent;
    double teacher;  // GB
    const char *without_momentum, *with_momentum;
  };
  for (const Row& row :
       {Row{kWan1_3B, kLatent480p, 2.84, "17.0", "22.7"}, Row{kWan14B, kLatent480p, 28.6, "171.5", "228.6"},
        Row{kWan5B, kLatent5B, 10.0, "60.0", "80.0"}}) {
    LaunchPlan plan = PlanFor(row.latent, 0);
    plan.experiment.optimizer.fake_score.beta1 = 0.9;
    const MemoryPlan memory = PlanMemory(plan, row.config, 0);
    const double teacher = Find(memory, "teacher.0").need.weights;
    EXPECT_EQ(teacher, 2.0 * static_cast<double>(ParameterCount(row.config)));
    EXPECT_NEAR(teacher / 1e9, row.teacher, row.teacher < 5 ? 0.005 : 0.05);
    EXPECT_EQ(Trained(Find(memory, "generator").need), row.without_momentum);
    EXPECT_EQ(Trained(Find(memory, "fake_score").need), row.with_momentum);
  }
}

TEST(MemoryPlan, AnOffloadedTeacherHasTwoBlocksOnItsDeviceAndAllInMainMemory) {
  LaunchPlan plan = PlanFor(kLatent480p, 23);
  const MemoryPlan whole = PlanMemory(plan, kWan14B, 0);
  EXPECT_EQ(whole.offloaded, 0);
  EXPECT_THAT(MemoryTable(whole), testing::Not(HasSubstr("offloaded")));
  plan.topology.teacher.offload = true;
  const MemoryPlan memory = PlanMemory(plan, kWan14B, 0);
  const double block = static_cast<double>(BlockParameterCount(kWan14B)), all = 14288491584;
  const MemoryNeed need = Find(memory, "teacher.0").need;
  EXPECT_EQ(need.weights, 2 * (all - 38 * block));
  EXPECT_EQ(need.total() - need.weights, Find(whole, "teacher.0").need.total() - Find(whole, "teacher.0").need.weights);
  EXPECT_FALSE(whole.devices.back().fits());
  EXPECT_TRUE(memory.devices.back().fits());
  EXPECT_EQ(memory.offloaded, 2 * 40 * block);
  EXPECT_THAT(MemoryTable(memory), HasSubstr("offloaded weights, GB of main memory of each teacher: 28.1\n"));
}

TEST(MemoryPlan, AdaptersAreTrainedOverABaseInTheComputeDtype) {
  LaunchPlan plan = PlanFor(kLatent480p, 79);
  plan.experiment.lora.rank = 64;
  plan.experiment.optimizer.generator.beta1 = 0.9;
  const MemoryNeed need = Find(PlanMemory(plan, kWan14B, 0), "generator").need;
  const double adapters = 306708480;
  EXPECT_EQ(need.weights, 2.0 * 14288491584 + 4 * adapters);
  EXPECT_EQ(need.gradients, 4 * adapters);
  EXPECT_EQ(need.optimizer, 8 * adapters);
  plan.experiment.precision.compute = Compute::kFloat32;
  EXPECT_EQ(Find(PlanMemory(plan, kWan14B, 0), "generator").need.weights, 4.0 * 14288491584 + 4 * adapters);
}

TEST(MemoryPlan, TheAverageIsTheGeneratorsAlone) {
  LaunchPlan plan = PlanFor(kLatent480p, 0);
  plan.experiment.ema.decay = 0.9;
  const MemoryPlan memory = PlanMemory(plan, kWan1_3B, 0);
  EXPECT_EQ(Find(memory, "generator").need.ema, 4.0 * 1418996800);
  EXPECT_EQ(Find(memory, "fake_score").need.ema, 0);
}

TEST(MemoryPlan, ActivationsGrowWithTheMicroBatchAndShrinkWithCheckpointing) {
  LaunchPlan plan = PlanFor(kLatent480p, 0);
  const auto activations = [&] { return Find(PlanMemory(plan, kWan1_3B, 0), "generator").need.activations; };
  const double one = activations();
  plan.experiment.data.micro_batch = 2;
  EXPECT_EQ(activations(), 2 * one);
  plan = Checkpointed(plan);
  EXPECT_LT(activations(), 0.3 * one);
  EXPECT_GT(activations(), 2 * CheckpointBytes(kWan1_3B, 32760, 1, 2));
}

TEST(MemoryPlan, SamplesOnTheirWayAreBoundedByWhatTheExperimentLetsBeInFlight) {
  LaunchPlan plan = PlanFor(kLatent480p, 79);
  plan.experiment.data.micro_batches = 8;
  const auto waiting = [&](const std::string& process) {
    const MemoryPlan memory = PlanMemory(plan, kWan1_3B, 0);
    return std::ranges::find(memory.waiting, process, &std::pair<std::string, double>::first)->second;
  };
  const double latent = 4.0 * 16 * 21 * 60 * 104;
  EXPECT_EQ(waiting("broker"), 8 * 3 * latent);
  plan.experiment.outer.max_staleness = 2;
  plan.experiment.precision.scores = Compute::kBfloat16;
  EXPECT_EQ(waiting("broker"), 3 * 8 * 2.5 * latent);
  EXPECT_EQ(waiting("generator"), 3 * 8 * 4 * latent);
  plan.topology.fake_score.device = "cpu";  // its are in its buffers
  const MemoryPlan memory = PlanMemory(plan, kWan1_3B, 0);
  for (const auto& [process, bytes] : memory.waiting) EXPECT_NE(process, "fake_score");
}

// wan_facts §7: 18 forward passes a sample with checkpointing and fresh inner samples, as the public recipe runs it.
TEST(MemoryPlan, WorkOfAStepIsThatOfTheRecipe) {
  LaunchPlan plan = Checkpointed(PlanFor(kLatent480p, 0));
  plan.experiment.inner.source = InnerSource::kFresh;
  plan.experiment.data.micro_batches = 16;
  plan.topology.teacher.replicas = 3;
  const auto passes = [&] {
    double flops = 0;
    for (const ProcessMemory& p : PlanMemory(plan, kWan1_3B, 0).processes) flops += p.step_flops;
    return flops / 16 / ForwardFlopsOf(kWan1_3B, 32760).total();
  };
  EXPECT_NEAR(passes(), 18, 1e-9);
  plan.experiment.inner.source = InnerSource::kShared;
  plan.topology.generator.checkpoint_blocks = plan.topology.fake_score.checkpoint_blocks = false;
  EXPECT_NEAR(passes(), 12.5, 1e-9);
}

// wan_facts §7: 33 with the diversity loss, 10 of them the anchor's, which later iterations find in the cache.
TEST(MemoryPlan, DiversityCostsALaterExitAPassAndTheAnchorsOnce) {
  LaunchPlan plan = Checkpointed(PlanFor(kLatent480p, 0));
  Experiment& e = plan.experiment;
  e.inner.source = InnerSource::kFresh;
  e.data.micro_batches = 16;
  e.diversity.weight = 0.05;
  e.diversity.noise_bank = 256;
  const auto passes = [&](const char* process) {
    return Find(PlanMemory(plan, kWan1_3B, 0), process).step_flops / 16 / ForwardFlopsOf(kWan1_3B, 32760).total();
  };
  e.steps = 16;  // no entry of the bank comes twice
  EXPECT_NEAR(passes("generator"), 2 + 1 + 4 + 4 + (2 + 1), 1e-9);
  EXPECT_NEAR(passes("fake_score"), 7, 1e-9);
  EXPECT_NEAR(passes("teacher.0"), 2 + 5 * 2, 1e-9);
  EXPECT_NEAR(passes("generator") + passes("fake_score") + passes("teacher.0"), 33, 1e-9);
  e.steps = 4;
  EXPECT_NEAR(passes("teacher.0"), 2 + 5 * 2, 1e-9);
  e.steps = 160;
  EXPECT_NEAR(passes("teacher.0"), 2 + 1, 1e-9);
  e.diversity.noise_bank = 0;  // no anchor comes twice
  EXPECT_NEAR(passes("teacher.0"), 2 + 5 * 2, 1e-9);
  e.diversity.noise_bank = 256;
  const double fresh = passes("generator");
  e.inner.source = InnerSource::kFreshAfter;
  EXPECT_EQ(passes("generator"), fresh);
  e.model.guidance = 1.0;
  e.steps = 16;
  EXPECT_NEAR(passes("teacher.0"), 1 + 5, 1e-9);
  e.schedule.exit_weights = {0, 0, 0, 1};
  EXPECT_NEAR(passes("generator"), 3 + 1 + 4 + 4 + (3 + 1), 1e-9);
  e.schedule.exit_weights = {1, 1, 1, 1};
  e.lora.rank = 64;
  EXPECT_NEAR(passes("generator"), 2 + 1 + 3 + 3 + (2 + 1), 1e-9);
}

TEST(MemoryPlan, ProcessesOnOneDeviceCountTogether) {
  LaunchPlan plan = PlanFor(kLatent480p, 30);
  EXPECT_TRUE(PlanMemory(Checkpointed(plan), kWan1_3B, 0).Fits());
  plan.topology.generator.device = "cuda";
  plan.topology.fake_score.device = plan.topology.teacher.device = "cuda:0";
  const MemoryPlan together = PlanMemory(Checkpointed(plan), kWan1_3B, 0);
  ASSERT_EQ(together.devices.size(), 1U);
  EXPECT_FALSE(together.Fits());
  EXPECT_THAT(OversizeAdvice(Checkpointed(plan), kWan1_3B, 0),
              HasSubstr("1. a device each for generator, fake_score, teacher.0  (no time): it fits"));
}

TEST(MemoryPlan, TheCpuHasTheMachinesMemoryAndAGpuOnlyWhatTheTopologySays) {
  LaunchPlan plan = PlanFor(kLatent480p, 0);
  EXPECT_TRUE(PlanMemory(plan, kWan14B, 1e9).Fits());  // not known: shown, not judged
  plan.topology.generator.device = plan.topology.fake_score.device = plan.topology.teacher.device = "cpu";
  EXPECT_FALSE(PlanMemory(plan, kWan14B, 1e9).Fits());
  EXPECT_TRUE(PlanMemory(plan, kWan14B, 1e14).Fits());
  plan.topology.teacher.device_memory_gib = 10;
  EXPECT_FALSE(PlanMemory(plan, kWan14B, 1e14).Fits());
  EXPECT_GT(MachineMemory(), 1e8);
}

// Its networks, which come one after the other, and the VAE that decodes what they draw.
TEST(MemoryPlan, AnEvaluatorOnAGpuNeedsLessWhereItDecodesInTiles) {
  LaunchPlan plan = PlanFor(kLatent720p, 0);
  plan.topology.evaluator.enabled = true;
  plan.topology.evaluator.device = "cuda:3";
  const auto activations = [&](std::int64_t tile) {
    plan.topology.evaluator.vae_tile = tile;
    return Find(PlanMemory(plan, kWan1_3B, 0), "evaluator").need.activations;
  };
  const double whole = activations(0);
  EXPECT_EQ(activations(1280), whole);
  EXPECT_LT(activations(720), whole);
  EXPECT_LT(activations(256), 0.7 * whole) << "the network's activations are left";
  plan.topology.evaluator.vae_tile = 0;
  plan.topology.evaluator.device_memory_gib = 12;
  EXPECT_THAT(OversizeAdvice(plan, kWan1_3B, 0), HasSubstr("1. [evaluator] vae_tile = 256"));
}

// A teacher of 14B and trained roles of 1.3B: each process as in a plan of one model of its size.
TEST(MemoryPlan, EachRoleNeedsWhatItsOwnNetworkDoes) {
  LaunchPlan plan = Checkpointed(PlanFor(kLatent480p, 79));
  const std::filesystem::path models = SGMD_SOURCE_DIR "/launch/models";
  plan.experiment.model.teacher = models / "Wan2.1-T2V-14B";
  plan.experiment.model.student = plan.experiment.model.fake_score = models / "Wan2.1-T2V-1.3B";
  const RoleConfigs configs(plan.experiment);
  const MemoryPlan memory = PlanMemory(plan, configs, 0), small = PlanMemory(plan, kWan1_3B, 0),
                   large = PlanMemory(plan, kWan14B, 0);
  for (const auto& [process, alike] : {std::pair("generator", &small), {"fake_score", &small}, {"teacher.0", &large}}) {
    EXPECT_EQ(Find(memory, process).need.total(), Find(*alike, process).need.total()) << process;
    EXPECT_EQ(Find(memory, process).step_flops, Find(*alike, process).step_flops) << process;
  }
  const DiskPlan disk = PlanDisk(plan.experiment, configs), of_small = PlanDisk(plan.experiment, kWan1_3B);
  EXPECT_EQ(disk.checkpoint, of_small.checkpoint);
  EXPECT_EQ(disk.student, of_small.student);
  const TimePlan time = PlanTime(plan, configs, {});
  EXPECT_EQ(time.devices.at(0).busy, PlanTime(plan, kWan1_3B, {}).devices.at(0).busy);
  EXPECT_EQ(time.devices.at(2).busy, PlanTime(plan, kWan14B, {}).devices.at(2).busy);
}

TEST(MemoryPlan, ALatentThatDoesNotFitTheModelIsAnError) {
  EXPECT_THROW(PlanMemory(PlanFor(kLatent5B, 0), kWan1_3B, 0), Error);
}

}  // namespace
}  // namespace sgmd
