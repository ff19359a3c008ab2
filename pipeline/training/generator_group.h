// The generator of a group of ranks: what its rank 0 drives as if it were one, some micro-batches at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "pipeline/training/generator.h"
#include "pipeline/training/role_group.h"

namespace sgmd {

/// A call takes a round: as many micro-batches as the group has at once, in order. Sums are in the order of rounds, and
/// of micro-batches within a round, whatever the number of ranks.
class GeneratorGroup : public RoleGroup<Generator> {
 public:
  /// As Generator.
  GeneratorGroup(const Experiment& experiment, at::Device device, Recomputation recompute, const RankGroup& group);

  /// A micro-batch of a step and its plan.
  struct Planned {
    std::int32_t index = 0;
    SamplePlan plan;
  };
  /// `keep_graphs`: as Generator::RollOut, of the whole round or none of it; the same round is then given to Accumulate
  /// in `step`. Exits of other ranks than this one have no x_g.
  std::vector<Generator::Rollout> RollOut(std::int64_t step, const std::vector<Planned>& round, bool keep_graphs);
  /// For the inner loop, with the plans of PlanFreshSample: x_g of each.
  std::vector<at::Tensor> RollOutFresh(std::int64_t step, std::int64_t update, const std::vector<Planned>& round);
  /// With the plan of the first of them. The losses, in order.
  std::vector<double> AccumulateDiversity(std::int64_t step, const std::vector<std::int32_t>& indices,
                                          const AnchorPlan& own, const std::vector<at::Tensor>& x_a);
  /// A sample that the student is trained on in a step, and dL/dx_g of it.
  struct Scored {
    std::int32_t index = 0;
    SamplePlan plan;
    Generator::Exit exit;
    at::Tensor gradient;
  };
  void Accumulate(std::int64_t step, const std::vector<Scored>& round);
  void SaveStudent(const std::filesystem::path& folder);
  /// What is trained, whole float32 tensors on the CPU; in a group of one on the CPU the parameters themselves.
  NamedTensors Weights();

  const PromptBank& bank() const { return role_.bank(); }

 private:
  enum : std::int64_t { kRollOut = kOfRole, kRollOutFresh, kAccumulateDiversity, kAccumulate, kSaveStudent, kWeights };

  void DoOfRole(const Order& order, std::int32_t index) override;
  void FollowRollOut(std::int64_t step, std::int32_t index, bool keep_graph, std::int64_t passes);
  void FollowAccumulate(std::int64_t step, std::int32_t index, bool kept);

  // What each rank does of a call; what others send comes to rank 0, and what it gives them is of use there alone.
  std::vector<Generator::Rollout> RollOutOwn(const SamplePlan& plan, bool keep_graph, std::int64_t passes,
                                             Generator::Exit* exit);
  std::vector<double> AccumulateDiversityOwn(const AnchorPlan& plan, const std::vector<at::Tensor>& x_a);
  void AccumulateOwn(const SamplePlan& plan, Generator::Exit own, const std::vector<at::Tensor>& exits,
                     const std::vector<at::Tensor>& gradients);
  NamedTensors WeightsOwn();

  Experiment experiment_;
  std::map<std::pair<std::int64_t, std::int32_t>, Generator::Exit> kept_;  // of ranks after 0, by step and micro-batch
};

}  // namespace sgmd
