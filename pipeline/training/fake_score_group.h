// The fake score of a group of ranks: what its rank 0 drives as if it were one, some micro-batches at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/digest/digest.h"
#include "pipeline/parallel/orders.h"
#include "pipeline/training/fake_score.h"

namespace sgmd {

/// As GeneratorGroup.
class FakeScoreGroup {
 public:
  FakeScoreGroup(const Experiment& experiment, at::Device device, bool checkpoint_blocks, const RankGroup& group);

  /// Micro-batches of a round.
  int round() const { return orders_.round(); }

  /// What FakeScore::Gradient takes, of micro-batch `index`.
  struct Scored {
    std::int32_t index = 0;
    at::Tensor x_g, x_s, sigma, velocity;
    std::vector<Digest> prompts;
  };
  /// FakeScore::Gradient of each; with [inner] source = paired GradientAndAccumulate.
  std::vector<FakeScore::Pair> Gradients(std::int64_t step, const std::vector<Scored>& round);
  /// FakeScore::Accumulate of micro-batches `indices` on samples(): the losses, in order.
  std::vector<double> Accumulate(std::int64_t step, std::int64_t update, const std::vector<std::int32_t>& indices,
                                 std::int64_t newest);
  /// FakeScore::Align.
  void Align(const NamedTensors& student);
  AdamW::StepReport Update();

  /// Files of all ranks, written into `folder`, with their digests.
  std::map<std::string, Digest> SaveState(const std::filesystem::path& folder);
  void LoadState(const std::filesystem::path& folder);
  /// Of all ranks together.
  Work CountedWork();
  /// The others leave Follow().
  void End();

  /// By the ranks after 0: does what rank 0 does, until End(). Throws Error when another rank is lost.
  void Follow();

  /// Of rank 0.
  InnerSamples& samples() { return fake_.samples(); }

 private:
  enum class What : std::int64_t {
    kGradients,
    kAccumulate,
    kAlign,
    kUpdate,
    kSaveState,
    kLoadState,
    kCountedWork,
    kEnd
  };
  void Give(What what, std::vector<std::int64_t> numbers = {}, std::vector<std::int32_t> round = {},
            std::string text = {}) {
    orders_.Give({static_cast<std::int64_t>(what), std::move(numbers), std::move(round), std::move(text)});
  }
  void Do(const Order& order);

  // What each rank does of a call; what others send comes to rank 0, and what it gives them is of use there alone.
  std::vector<FakeScore::Pair> GradientsOwn(std::int64_t step, std::int32_t index, at::ScalarType scores,
                                            const std::vector<Scored>& round);
  std::vector<double> AccumulateOwn(std::int64_t step, std::int64_t update, std::int32_t index,
                                    const std::vector<InnerSample>& round);
  void AlignOwn(const NamedTensors& student);

  Experiment experiment_;
  Orders orders_;
  FakeScore fake_;
};

}  // namespace sgmd
