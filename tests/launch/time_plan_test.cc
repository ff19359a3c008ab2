// What a plan says of time and disk, where it can be worked out by hand.
#include "launch/plan/time_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launch/plan/disk_plan.h"
#include "launch/plan/memory_plan.h"
#include "pipeline/models/wan_size.h"
#include "tests/support/real_config.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

// Two micro-batches of one sample; exit at the third step; a forward pass takes one second. Of a sample: rollout 3,
// score 2, gradient 2, exit step 3, inner update 3.
class TimePlans : public testing::Test {
 protected:
  TimePlans() {
    Experiment& e = plan_.experiment;
    e.steps = 100;
    e.data.latent = kLatent480p;
    e.data.micro_batches = 2;
    e.model.guidance = 3;
    e.schedule.exit_weights = {0, 0, 1, 0};
    plan_.topology.generator.device = "cuda:0";
    plan_.topology.fake_score.device = "cuda:1";
    plan_.topology.teacher.device = "cuda:2";
  }
  TimePlan Time() const { return PlanTime(plan_, kWan1_3B, ForwardFlopsOf(kWan1_3B, 32760).total() / 1e12); }
  double Busy(const std::string& device) const {
    for (const DeviceTime& d : Time().devices) {
      if (d.device == device) return d.busy;
    }
    return -1;
  }
  LaunchPlan plan_;
};

// Exit steps end at 10 and 13; rollouts after the update from 13 to 16 and 19; inner updates from 16 to 19 and to 22.
TEST_F(TimePlans, RolloutsAfterTheUpdateHoldUpTheInnerLoop) {
  plan_.experiment.inner.source = InnerSource::kFreshAfter;
  EXPECT_NEAR(Time().step_seconds, 22, 1e-9);
  EXPECT_NEAR(Busy("cuda:0"), 18, 1e-9);
}

// Rolled out at 3 and 6, scored at 5 and 8, gradients at 7 and 10; inner updates from 10 to 16, exit steps from 7 to 10
// and from 10 to 13.
TEST_F(TimePlans, AStrictStepEndsWithItsLastInnerUpdate) {
  EXPECT_NEAR(Time().step_seconds, 16, 1e-9);
  EXPECT_NEAR(Busy("cuda:0"), 12, 1e-9);
  EXPECT_NEAR(Busy("cuda:1"), 10, 1e-9);
  EXPECT_NEAR(Busy("cuda:2"), 4, 1e-9);
  const TimePlan time = Time();
  EXPECT_NEAR(time.IdleShare(time.devices[2]), 0.75, 1e-9);
}

TEST_F(TimePlans, TheBusiestDeviceSetsThePaceOfAPipelinedRun) {
  plan_.experiment.outer.max_staleness = 1;
  EXPECT_NEAR(Time().step_seconds, 12, 1e-9);
}

TEST_F(TimePlans, OneDeviceDoesOneThingAtATime) {
  plan_.topology.generator.device = plan_.topology.fake_score.device = plan_.topology.teacher.device = "cuda";
  EXPECT_NEAR(Time().step_seconds, 26, 1e-9);
  EXPECT_NEAR(Time().IdleShare(Time().devices[0]), 0, 1e-9);
}

// A score takes 2. One teacher takes one after the other, two take one each.
TEST_F(TimePlans, TeachersShareTheScores) {
  plan_.experiment.schedule.exit_weights = {1, 0, 0, 0};  // rolled out at 1 and 2
  EXPECT_NEAR(Time().step_seconds, 1 + 2 + 2 + 2 + 6, 1e-9);
  plan_.topology.teacher.replicas = 2;
  plan_.topology.teacher.devices = {"cuda:2", "cuda:3"};
  EXPECT_NEAR(Busy("cuda:2"), 2, 1e-9);
  EXPECT_NEAR(Busy("cuda:3"), 2, 1e-9);
}

// A pass of two samples takes 2 s, and copies 5.66 GB. Where the device computes ten times as fast as the copies come,
// these set its pace.
TEST_F(TimePlans, AnOffloadedTeacherWaitsForItsCopiesWhereTheyTakeLonger) {
  const double whole = Time().step_seconds, blocks = 4 * 30.0 * static_cast<double>(BlockParameterCount(kWan1_3B));
  plan_.topology.teacher.offload = true;
  EXPECT_NEAR(Time().step_seconds, whole, 1e-9);
  const double quick = ForwardFlopsOf(kWan1_3B, 32760).total() / 1e12 / 0.01;  // a forward pass in 10 ms
  const auto busy = [&] { return PlanTime(plan_, kWan1_3B, quick).devices[2].busy; };
  EXPECT_NEAR(busy(), 2 * blocks / 25e9, 1e-9);
  plan_.experiment.data.micro_batch = 3;
  EXPECT_NEAR(busy(), 2 * blocks / 25e9, 1e-9);
  plan_.experiment.model.guidance = 1;
  EXPECT_NEAR(busy(), 2 * blocks / 25e9, 1e-9);
  EXPECT_THAT(TimeText(plan_, kWan1_3B, quick),
              HasSubstr("offload      5.6 GB from main memory for a pass of a teacher: 0.22 s at 25 GB/s (assumed), "
                        "beside 0.03 s of computing"));
}

TEST_F(TimePlans, TheTextStatesTheSpeedThatItAssumes) {
  EXPECT_THAT(TimeText(plan_, kWan1_3B, {}), HasSubstr("at 50 TFLOP/s a GPU (assumed; --tflops says otherwise)"));
  plan_.experiment.precision.compute = Compute::kBfloat16;
  plan_.topology.teacher.device = "cpu";
  EXPECT_THAT(TimeText(plan_, kWan1_3B, {}), HasSubstr("at 400 TFLOP/s a GPU and 0.1 TFLOP/s a CPU (assumed"));
  EXPECT_THAT(TimeText(plan_, kWan1_3B, 300), HasSubstr("at 300 TFLOP/s a GPU and 300 TFLOP/s a CPU:"));
}

TEST_F(TimePlans, TheTextStatesWhatDeterminismCostsOnAGpu) {
  EXPECT_THAT(TimeText(plan_, kWan1_3B, {}), testing::Not(HasSubstr("determinism")));  // float32
  plan_.experiment.precision.compute = Compute::kBfloat16;
  EXPECT_THAT(TimeText(plan_, kWan1_3B, {}), HasSubstr("determinism  about 31 % of a training pass"));
  plan_.experiment.precision.deterministic = false;
  EXPECT_THAT(TimeText(plan_, kWan1_3B, {}), testing::Not(HasSubstr("determinism")));
}

TEST_F(TimePlans, TheTextStatesTheWeightsThatAlignmentSends) {
  EXPECT_THAT(TimeText(plan_, kWan1_3B, {}), testing::Not(HasSubstr("alignment")));
  plan_.experiment.objective.alignment = 0.03;
  EXPECT_THAT(TimeText(plan_, kWan1_3B, {}), HasSubstr("5.7 GB of weights a step from generator to fake_score"));
}

TEST_F(TimePlans, TheCacheGrowsByTheVelocitiesOfAStep) {
  const double latent = 4.0 * 16 * 21 * 60 * 104;
  const DiskPlan disk = PlanDisk(plan_.experiment, kWan1_3B);
  EXPECT_EQ(disk.cache_step, 2 * latent);
  EXPECT_EQ(disk.cache_run, 200 * latent);
  EXPECT_EQ(disk.checkpoint, 4.0 * 1418996800 * 4);
  plan_.topology.cache.limit_gib = 0.5;
  EXPECT_THAT(DiskText(plan_, kWan1_3B), HasSubstr("cannot be replayed as a whole"));
  plan_.topology.cache.limit_gib = 10;
  EXPECT_THAT(DiskText(plan_, kWan1_3B), testing::Not(HasSubstr("cannot be replayed")));
}

}  // namespace
}  // namespace sgmd
