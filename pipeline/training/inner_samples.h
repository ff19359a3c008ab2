// Where the student samples of the inner loop come from.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "common/config/experiment.h"
#include "common/digest/digest.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

/// One micro-batch of student samples.
struct InnerSample {
  at::Tensor x_g;               // float32 CPU [B, C, F, H, W]
  std::vector<Digest> prompts;  // [B]
};

/// The samples that update r of step k trains on, by [inner] source:
///   shared       the scored micro-batches that the generator is trained on in step k, in order: no rollout beyond its
///                own
///   fresh        rollouts of their own with the student before its update of step k: they need not wait for it
///   fresh_after  rollouts of their own with the student after its update of step k, as in the public trainer
///   replay       scored micro-batches of the steps k - max_age .. k, drawn uniformly: no rollout, any number of
///                updates a step. With a free pace of the steps n - max_age .. n, where n is the newest that is here
///   paired       none: the inner gradient comes from the same pass of the network as the generator's (FakeScore)
/// The student before its update of step k has made k updates. Draws are functions of (seed, step, update, index), the
/// same ones for fresh and fresh_after.
class InnerSamples {
 public:
  explicit InnerSamples(const Experiment& experiment) : experiment_(experiment) {}

  /// Micro-batch `index` that was rolled out in `step`. One that is here already, or that no later step can ask for, is
  /// left out.
  void AddScored(std::int64_t step, std::int64_t index, InnerSample sample);
  /// A rollout of `fresh` or `fresh_after`.
  void AddFresh(std::int64_t step, std::int64_t update, std::int64_t index, InnerSample sample);
  /// Whether everything that the inner loop of `step` may ask for is here.
  bool Complete(std::int64_t step) const;
  /// Whether a scored sample of `step`, or of the step that rolled out for it, is here.
  bool HasAny(std::int64_t step) const;
  /// The newest step that rolled out whose scored samples are all here; nothing where there is none.
  std::optional<std::int64_t> Newest() const;
  /// `newest` (with a locked pace `step` itself) must be complete.
  const InnerSample& For(std::int64_t step, std::int64_t update, std::int64_t index, std::int64_t newest) const;
  /// Forgets what steps after `step` cannot ask for. Scored samples of a step that rolled out serve those of
  /// RolloutStepOf it, too.
  void Finish(std::int64_t step);

  /// What a resumed run needs: the recorded samples of `replay`, empty for the other sources.
  NamedTensors State() const;
  /// Throws Error when the file holds something else.
  void LoadState(const SafetensorsFile& file);

 private:
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t>;  // step, update (0 for scored ones), index
  Experiment experiment_;
  std::map<Key, InnerSample> scored_, fresh_;
  std::int64_t oldest_ = 0;  // step whose scored samples may still be asked for
};

}  // namespace sgmd
