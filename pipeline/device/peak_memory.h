// What a process has held on its device.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace sgmd {

/// Largest numbers of bytes since the start, or since ResetPeakMemory, of this process.
struct PeakMemory {
  std::int64_t tensors = 0;   // in tensors and the workspaces of kernels at one time
  std::int64_t reserved = 0;  // taken from the device at one time: with what is kept for later or lost in fragments
};

/// Of a GPU; of the CPU, where LibTorch does not count, zeros. CUDA's context and kernels are in neither.
PeakMemory PeakMemoryOf(c10::Device device);
void ResetPeakMemory(c10::Device device);

}  // namespace sgmd
