// Tensors and prompts of messages (common/messages) as the science wants them, and back.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "common/digest/digest.h"
#include "common/transport/envelope.h"

namespace sgmd {

/// A tensor as a frame that keeps it alive; the message gives it its name. CPU contiguous; no copy.
TensorFrame ToFrame(const at::Tensor& tensor);
/// A new CPU tensor with a copy of the frame's bytes.
at::Tensor ToTensor(const TensorFrame& frame);

/// Digests as uint8 [B, 16], and back.
TensorFrame PromptsToFrame(const std::vector<Digest>& prompts);
std::vector<Digest> PromptsFromFrame(const TensorFrame& frame);

}  // namespace sgmd
