// What a process has held on its device.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace sgmd {

/// Largest numbers of bytes since the start, or since ResetPeakMemory, of this process.
struct PeakMemory {
  std::int64_t tensors = 0;  // at one time in tensors and the workspaces of kernels
  std::int64_t reserved =
      0;  // at one time taken from the device: the above, and what is kept for later or in fragments
};

/// Of a GPU; of the CPU, where LibTorch does not count, zeros. CUDA's context and kernels are in neither.
PeakMemory PeakMemoryOf(c10::Device device);
void ResetPeakMemory(c10::Device device);

}  // namespace sgmd
