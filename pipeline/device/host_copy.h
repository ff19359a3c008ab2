// Copies of results for the host.
#pragma once

#include <ATen/core/Tensor.h>

namespace sgmd {

/// `tensor` on the CPU and contiguous, detached; itself where it is so already. From a GPU it is copied once, into
/// pinned memory, which the GPU writes without the driver's own copy in between and from which it can be sent as it is.
/// For what is sent again and again: LibTorch keeps pinned memory for the next tensor of its size.
at::Tensor ToHost(const at::Tensor& tensor);

}  // namespace sgmd
