// The student's weights as messages to the fake score.
#pragma once

#include <cstdint>
#include <vector>

#include "common/messages/ring.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {

/// What one message holds at most, but for a single tensor that is larger. EnvelopeLimits allows 64 tensors.
struct ChunkLimits {
  std::size_t tensors = 60;
  std::int64_t bytes = std::int64_t{256} << 20;
};

/// `trained` after the update of `step`, in its order, as float32 copies on the CPU: they stay what they are while the
/// messages are on their way and the next update changes the parameters. At least one message.
std::vector<message::StudentWeights> ChunksOf(std::int64_t step, const NamedTensors& trained,
                                              const ChunkLimits& limits = {});

}  // namespace sgmd
