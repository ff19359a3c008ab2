// What a rank of a group holds, against the plan.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "common/config/role.h"
#include "launch/plan/memory_plan.h"
#include "pipeline/training/generator.h"
#include "pipeline/training/teacher.h"
#include "tests/support/counting_allocator.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

// The second of `ranks` ranks without the others: what they would send is zeros. Sizes are what they are in a group.
class RankAlone : public Collectives {
 public:
  explicit RankAlone(int ranks) : Collectives(1, ranks) {}

 private:
  Pending StartAllGather(const at::Tensor& out, const at::Tensor& in) override {
    out.zero_();
    out.view({ranks(), -1})[rank()].copy_(in.view({-1}));
    return Pending([] {});
  }
  Pending StartAllToAll(const at::Tensor& out, const at::Tensor&, const Rows&, const Rows&) override {
    out.zero_();
    return Pending([] {});
  }
  Pending StartBroadcast(const at::Tensor&, int) override {
    return Pending([] {});
  }
  void WaitForAll() override {}
};

class RankMemory : public testing::TestWithParam<std::tuple<int, const char*, int>> {};

TEST_P(RankMemory, AtItsPeakIsThatOfThePlan) {
  const auto& [ranks, experiment, kept] = GetParam();
  at::set_num_threads(1);
  TinyRun run(1, experiment);
  WriteTinyModel(run.folder() / "model", 1, 768);
  LaunchPlan plan = LoadLaunchPlan(run.topology());
  plan.topology.generator.devices.assign(static_cast<std::size_t>(ranks), "cpu");
  plan.topology.generator.keep_exit_graphs = 0;
  plan.topology.generator.keep_blocks = kept;
  const MemoryPlan memory = PlanMemory(plan, RoleConfigs(plan.experiment), 0);
  const auto process = std::ranges::find(memory.processes, "generator/1", &ProcessMemory::process);
  ASSERT_NE(process, memory.processes.end());
  const double planned = process->need.total() - process->need.runtime;

  const auto group = std::make_shared<RankAlone>(ranks);
  const CountingAllocator counting;
  Generator generator(plan.experiment, at::kCPU, RecomputationOf(plan.topology.generator), {group, group, nullptr});
  CountingAllocator::ResetPeak();
  const SamplePlan sample = PlanSample(plan.experiment, generator.bank(), 0, 0);
  const Generator::Rollout rollout = generator.RollOut(sample);
  for (int micro_batch = 0; micro_batch < 2; ++micro_batch)
    generator.Accumulate(sample, rollout.exit, at::ones_like(rollout.x_g));
  generator.Update();
  EXPECT_NEAR(static_cast<double>(CountingAllocator::peak()) / planned, 1, 0.1)
      << "peak " << CountingAllocator::peak() << ", planned " << planned;
}

TEST(TeacherRankMemory, AtItsPeakIsThatOfThePlan) {
  at::set_num_threads(1);
  TinyRun run(1, "", "[teacher]\nranks = 4\n");
  WriteTinyModel(run.folder() / "model", 1, 768);
  const LaunchPlan plan = LoadLaunchPlan(run.topology());
  const MemoryPlan memory = PlanMemory(plan, RoleConfigs(plan.experiment), 0);
  const auto process = std::ranges::find(memory.processes, "teacher.0/1", &ProcessMemory::process);
  ASSERT_NE(process, memory.processes.end());
  const double planned = process->need.total() - process->need.runtime;

  const auto group = std::make_shared<RankAlone>(4);
  const CountingAllocator counting;
  Teacher teacher(plan.experiment, at::kCPU, {group, group, nullptr});
  CountingAllocator::ResetPeak();
  const SamplePlan sample = PlanSample(plan.experiment, PromptBank::Open(plan.experiment.model.prompts), 0, 0);
  teacher.Score(at::ones(LatentShape(plan.experiment)), at::ones({plan.experiment.data.micro_batch}), sample.prompts);
  EXPECT_NEAR(static_cast<double>(CountingAllocator::peak()) / planned, 1, 0.1)
      << "peak " << CountingAllocator::peak() << ", planned " << planned;
}

INSTANTIATE_TEST_SUITE_P(Of, RankMemory,
                         testing::Combine(testing::Values(2, 4), testing::Values("", "[lora]\nrank = 8\n"),
                                          testing::Values(0, 1, 2)),
                         [](const auto& info) {
                           return std::to_string(std::get<0>(info.param)) +
                                  (*std::get<1>(info.param) == '\0' ? "All" : "Adapters") + "BlocksKept" +
                                  std::to_string(std::get<2>(info.param));
                         });

}  // namespace
}  // namespace sgmd
