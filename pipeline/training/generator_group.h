// The generator of a group of ranks: what its rank 0 drives as if it were one, some micro-batches at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/digest/digest.h"
#include "pipeline/parallel/orders.h"
#include "pipeline/training/generator.h"

namespace sgmd {

/// Every rank makes one, with the same experiment. Then rank 0 makes the calls below, and the others Follow() them.
/// A call takes a round: as many micro-batches as there are ranks, one for each in order. Sums are in the order of
/// rounds, and of micro-batches within a round, whatever the number of ranks.
class GeneratorGroup {
 public:
  /// As Generator.
  GeneratorGroup(const Experiment& experiment, at::Device device, bool checkpoint_blocks, const RankGroup& group);

  /// Micro-batches of a round.
  int round() const { return orders_.round(); }

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
  AdamW::StepReport Update();

  /// Files of all ranks, written into `folder`, with their digests.
  std::map<std::string, Digest> SaveState(const std::filesystem::path& folder);
  void LoadState(const std::filesystem::path& folder);
  void SaveStudent(const std::filesystem::path& folder);
  /// What is trained, whole float32 tensors on the CPU.
  NamedTensors Weights();
  /// Of all ranks together.
  Work CountedWork();
  /// The others leave Follow().
  void End();

  /// By the ranks after 0: does what rank 0 does, until End(). Throws Error when another rank is lost.
  void Follow();

  const PromptBank& bank() const { return generator_.bank(); }

 private:
  enum class What : std::int64_t {
    kRollOut,
    kRollOutFresh,
    kAccumulateDiversity,
    kAccumulate,
    kUpdate,
    kSaveState,
    kLoadState,
    kSaveStudent,
    kWeights,
    kCountedWork,
    kEnd
  };
  void Give(What what, std::vector<std::int64_t> numbers = {}, std::vector<std::int32_t> round = {},
            std::string text = {}) {
    orders_.Give({static_cast<std::int64_t>(what), std::move(numbers), std::move(round), std::move(text)});
  }
  void Do(const Order& order);
  void FollowAccumulate(std::int64_t step, std::int32_t index, bool kept);

  // What each rank does of a call; what others send comes to rank 0, and what it gives them is of use there alone.
  std::vector<Generator::Rollout> RollOutOwn(const SamplePlan& plan, bool keep_graph, std::int64_t passes,
                                             Generator::Exit* exit);
  std::vector<double> AccumulateDiversityOwn(const AnchorPlan& plan, const std::vector<at::Tensor>& x_a);
  void AccumulateOwn(const SamplePlan& plan, Generator::Exit own, const std::vector<at::Tensor>& exits,
                     const std::vector<at::Tensor>& gradients);
  std::map<std::string, Digest> SaveStateOwn(const std::filesystem::path& folder);
  NamedTensors WeightsOwn();

  Experiment experiment_;
  Orders orders_;
  Generator generator_;
  std::map<std::pair<std::int64_t, std::int32_t>, Generator::Exit> kept_;  // of ranks after 0, by step and micro-batch
};

}  // namespace sgmd
