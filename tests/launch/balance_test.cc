// Splits of a run over machines.
#include "launch/plan/balance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "common/error/error.h"
#include "launch/plan/memory_plan.h"
#include "tests/support/error_of.h"
#include "tests/support/real_config.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

LaunchPlan Shipped(const std::string& topology) {
  return LoadLaunchPlan(StrCat(SGMD_SOURCE_DIR, "/launch/topologies/", topology, ".toml"), RequiredFiles::kNone);
}

// TFLOP of a step on the busiest device, and that over the mean.
std::pair<double, double> Busiest(const LaunchPlan& plan, const WanConfig& config) {
  std::map<std::string, double> devices;
  double sum = 0, most = 0;
  for (const ProcessMemory& process : PlanMemory(plan, config, 0).processes) {
    devices[process.device] += process.step_flops / 1e12;
    sum += process.step_flops / 1e12;
  }
  for (const auto& [device, flops] : devices) most = std::max(most, flops);
  return {most, most / (sum / static_cast<double>(devices.size()))};
}

TEST(Balance, OverOneHostAllRolesOfASmallModelShareAllGpus) {
  const Balanced split = BalancedOver(Shipped("wan2.1-t2v-1.3b-1x80gb"), kWan1_3B, ParseRack("8x80gb"), {});
  const auto [busiest, balance] = Busiest(split.plan, kWan1_3B);
  EXPECT_LE(busiest, 13500);
  EXPECT_LE(balance, 1.15);
  EXPECT_TRUE(PlanMemory(split.plan, kWan1_3B, 0).Fits());
}

TEST(Balance, OfALargeModelFitsAndIsNoSlowerThanTheShippedTopology) {
  for (const auto& [topology, rack] : {std::pair{"wan2.1-t2v-14b-480p-8x141gb", "8x141gb"},
                                       {"wan2.1-t2v-14b-lora-480p-8x80gb", "8x80gb"},
                                       {"wan2.1-t2v-14b-lora-480p-2x8x80gb", "2x8x80gb"}}) {
    const LaunchPlan shipped = Shipped(topology);
    const Balanced split = BalancedOver(shipped, kWan14B, ParseRack(rack), {});
    EXPECT_TRUE(PlanMemory(split.plan, kWan14B, 0).Fits()) << topology;
    EXPECT_LE(Busiest(split.plan, kWan14B).first, 1.01 * Busiest(shipped, kWan14B).first) << topology;
  }
}

TEST(Balance, ATeacherThatIsTooLargeBesideTheRestIsAGroup) {
  for (const char* topology : {"wan2.1-t2v-14b-480p-8x80gb", "wan2.1-t2v-14b-lora-720p-8x80gb"}) {
    const Balanced split = BalancedOver(Shipped(topology), kWan14B, ParseRack("8x80gb"), {});
    EXPECT_TRUE(PlanMemory(split.plan, kWan14B, 0).Fits()) << topology;
    EXPECT_GE(split.plan.topology.teacher.ranks, 4) << topology;
    EXPECT_LE(Busiest(split.plan, kWan14B).second, 1.05) << topology;
  }
}

TEST(Balance, TeachersStayOffloadedWhereTheyAreWhole) {
  for (const auto& [topology, whole] :
       {std::pair{"wan2.1-t2v-14b-to-1.3b-8x80gb", true}, {"wan2.1-t2v-14b-lora-720p-8x80gb", false}}) {
    LaunchPlan plan = Shipped(topology);
    plan.topology.teacher.offload = true;
    const Balanced split = BalancedOver(plan, RoleConfigs(plan.experiment), ParseRack("8x80gb"), {});
    EXPECT_EQ(split.plan.topology.teacher.ranks == 1, whole) << topology;
    EXPECT_EQ(split.plan.topology.teacher.offload, whole) << topology;
  }
}

TEST(Balance, WhatFitsNowhereIsAnErrorWithTheLeastNeed) {
  EXPECT_THAT(ErrorOf([] { BalancedOver(Shipped("wan2.1-t2v-14b-480p-8x141gb"), kWan14B, ParseRack("2x24gb"), {}); }),
              HasSubstr("no split over these machines fits: the least that one of their GPUs needs is"));
}

TEST(Rack, IsHostsGpusAndTheirMemory) {
  EXPECT_EQ(ParseRack("8x80gb").gpus, 8);
  EXPECT_EQ(ParseRack("3x8x141gb").hosts, 3);
  EXPECT_EQ(ParseRack("3x8x141gb").memory_gib, 139);
  for (const char* wrong : {"", "8", "8x80", "0x80gb", "8x80gbx", "99x8x80gb", "-1x80gb"})
    EXPECT_THAT(ErrorOf([&] { ParseRack(wrong); }), HasSubstr("--balance")) << wrong;
}

}  // namespace
}  // namespace sgmd
