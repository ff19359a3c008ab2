// The teacher of a group of ranks: what its rank 0 drives as if it were one, some micro-batches at once.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/parallel/orders.h"
#include "pipeline/training/teacher.h"

namespace sgmd {

/// Every rank makes one, as it would a Teacher, with the same experiment. Then rank 0 makes the calls, and the others
/// Follow() them.
class TeacherGroup {
 public:
  TeacherGroup(const Experiment& experiment, at::Device device, const RankGroup& group, bool offload)
      : experiment_(experiment), orders_(group), role_(experiment, device, group, offload) {}

  /// Micro-batches that the group answers at once, at most.
  std::size_t round() const { return static_cast<std::size_t>(orders_.round()); }

  /// What Teacher::Score takes of a micro-batch, or Teacher::Anchor, which has no sigma.
  struct Asked {
    at::Tensor x, sigma;
    std::vector<Digest> prompts;
  };
  /// From 1 to round() micro-batches -> what Teacher::Score answers to each.
  std::vector<at::Tensor> Score(const std::vector<Asked>& asked) { return Answer(kScore, asked); }
  /// Likewise Teacher::Anchor.
  std::vector<at::Tensor> Anchor(const std::vector<Asked>& asked) { return Answer(kAnchor, asked); }
  /// Of rank 0: each micro-batch of a call costs what its own does.
  const Work& work() const { return role_.work(); }
  /// The others leave Follow().
  void End() { orders_.Give({kEnd, {}, {}, {}}); }

  /// By the ranks after 0: does what rank 0 does, until End(). Throws GroupLost when another rank is lost.
  void Follow();

 private:
  enum What : std::int64_t { kEnd, kScore, kAnchor };

  std::vector<at::Tensor> Answer(What what, const std::vector<Asked>& asked);
  std::vector<at::Tensor> AnswerOwn(std::int64_t what, std::int64_t count, std::int64_t experts,
                                    const std::vector<Asked>& round);

  Experiment experiment_;
  Orders orders_;
  Teacher role_;
};

}  // namespace sgmd
