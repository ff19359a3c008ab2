// The scored samples that the fake score has yet to answer with a gradient.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "common/config/experiment.h"
#include "common/messages/ring.h"

namespace sgmd {

/// Each micro-batch once a step: a sample that comes again, answered or not, changes nothing. With [outer] reuse = U
/// the samples of a step that rolled out serve U steps, and are kept as long.
class ScoredSamples {
 public:
  explicit ScoredSamples(const Experiment& experiment);

  /// Throws Error when the experiment has no such sample.
  void Add(message::ScoredSample scored);
  /// Indices for `step` that are here and were not taken in it, ascending; with [inner] source = paired only those
  /// before which none is missing. `step` is the last one finished + 1, or the first.
  std::vector<std::int32_t> Ready(std::int64_t step) const;
  /// `index` must be ready; no longer afterwards.
  const message::ScoredSample& Take(std::int64_t step, std::int32_t index);
  /// How many of the step were taken.
  std::int64_t taken() const { return static_cast<std::int64_t>(taken_.size()); }
  /// `step` is over: what still comes of it, and serves no later one, is dropped.
  void Finish(std::int64_t step);

 private:
  Experiment experiment_;
  std::vector<std::int64_t> shape_;                          // LatentShape
  std::map<message::Ticket, message::ScoredSample> scored_;  // of steps that may yet ask for them
  std::set<std::int32_t> taken_;                             // of the step that is not over, indices
  std::int64_t finished_ = -1;                               // the last step that is
};

/// Throws Error where a rollout for the inner loop has another shape than `shape` or a value that is not finite.
void RequireWhole(const message::InnerSample& sample, const std::vector<std::int64_t>& shape);

}  // namespace sgmd
