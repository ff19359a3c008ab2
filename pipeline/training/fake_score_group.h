// The fake score of a group of ranks: what its rank 0 drives as if it were one, some micro-batches at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "pipeline/training/fake_score.h"
#include "pipeline/training/role_group.h"

namespace sgmd {

/// As GeneratorGroup.
class FakeScoreGroup : public RoleGroup<FakeScore> {
 public:
  FakeScoreGroup(const Experiment& experiment, at::Device device, Recomputation recompute, const RankGroup& group);

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

  /// Of rank 0.
  InnerSamples& samples() { return role_.samples(); }

 private:
  enum : std::int64_t { kGradients = kOfRole, kAccumulate, kAlign };

  void DoOfRole(const Order& order, std::int32_t index) override;

  // What each rank does of a call; what others send comes to rank 0, and what it gives them is of use there alone.
  std::vector<FakeScore::Pair> GradientsOwn(std::int64_t step, std::int32_t index, at::ScalarType scores,
                                            const std::vector<Scored>& round);
  std::vector<double> AccumulateOwn(std::int64_t step, std::int64_t update, std::int32_t index,
                                    const std::vector<InnerSample>& round);
  void AlignOwn(const NamedTensors& student);

  Experiment experiment_;
};

}  // namespace sgmd
