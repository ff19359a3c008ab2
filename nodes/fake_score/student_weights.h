// The student's weights as they arrive at the fake score, which aligns with them.
#pragma once

#include <cstdint>
#include <map>

#include "common/messages/ring.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

/// Collects the chunks of a step's weights, which may come in any order and more than once.
class ArrivedWeights {
 public:
  /// Copies the tensors of `chunk`. One that is there already, or of a step that has been taken, is ignored. Throws
  /// Error when its number is not one of its step's, or when it says another number of chunks than those before it.
  void Add(const message::StudentWeights& chunk);
  /// Whether every chunk of `step` is there.
  bool Complete(std::int64_t step) const;
  /// All tensors of `step`, which must be complete (Error otherwise), in the order of the model: float32 on the CPU.
  /// They, and what came of earlier steps, are forgotten.
  NamedTensors Take(std::int64_t step);

 private:
  struct Step {
    std::int64_t chunks = 0;                     // in all
    std::map<std::int32_t, NamedTensors> there;  // by number
  };
  std::map<std::int64_t, Step> steps_;
  std::int64_t taken_ = -1;  // the last step that has been taken
};

}  // namespace sgmd
