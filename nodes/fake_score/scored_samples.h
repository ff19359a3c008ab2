// The scored samples that the fake score has yet to answer with a gradient.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "common/messages/ring.h"

namespace sgmd {

/// Each ticket once: a sample that comes again, answered or not, changes nothing.
class ScoredSamples {
 public:
  /// `shape`: of the experiment's latents, [micro_batch, C, F, H, W]. `micro_batches`: of a step.
  ScoredSamples(std::vector<std::int64_t> shape, std::int64_t micro_batches)
      : shape_(std::move(shape)), micro_batches_(micro_batches) {}

  /// Throws Error when the experiment has no such sample.
  void Add(message::ScoredSample scored);
  /// Those of `step` that have come and were not taken, in the order in which they came.
  std::vector<message::ScoredSample> Take(std::int64_t step);
  /// `step` is over: what still comes of it is dropped.
  void Finish(std::int64_t step);

 private:
  std::vector<std::int64_t> shape_;
  std::int64_t micro_batches_;
  std::map<std::int64_t, std::vector<message::ScoredSample>> waiting_;  // by step
  std::set<message::Ticket> seen_;                                      // of steps that are not over
  std::int64_t finished_ = -1;                                          // the last step that is
};

/// Throws Error where a rollout for the inner loop has another shape than `shape` or a value that is not finite.
void RequireWhole(const message::InnerSample& sample, const std::vector<std::int64_t>& shape);

}  // namespace sgmd
