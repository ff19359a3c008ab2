// As much of CUDA as pipeline/kernels/row_kernels.cu takes, on the CPU: the threads of a block are fibers that go on in
// turn from barrier to barrier, and blocks run one after the other. Shows that the code of a block is right, not that
// it is fast, and no race between barriers, as fibers are not interrupted.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(threads)
#define __shared__ static  // blocks run one after the other

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct dim3 {
  unsigned x, y;
  dim3(unsigned width = 1, unsigned height = 1) : x(width), y(height) {}  // NOLINT: as CUDA's
};

using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
constexpr int cudaFuncAttributeMaxDynamicSharedMemorySize = 8;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, int, int) {
  return cudaSuccess;
}

inline dim3 threadIdx, blockIdx, blockDim;

namespace cuda_on_cpu {

inline std::vector<float4> dynamic_shared;
inline std::vector<float> exchanged;  // a value a thread
inline ucontext_t scheduler;
inline ucontext_t* running = nullptr;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool done = false;
};

template <typename Body>
void RunBlock(unsigned threads, Body& body) {
  constexpr std::size_t kStack = 64 << 10;
  static std::vector<Fiber> fibers;
  static Body* run;
  run = &body;
  if (fibers.size() < threads) fibers.resize(threads);
  exchanged.resize(threads);
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& fiber = fibers[i];
    if (!fiber.stack) fiber.stack = std::make_unique<char[]>(kStack);
    fiber.done = false;
    ::getcontext(&fiber.context);
    fiber.context.uc_stack = {fiber.stack.get(), 0, kStack};
    fiber.context.uc_link = &scheduler;
    ::makecontext(&fiber.context, reinterpret_cast<void (*)()>(+[] {
      (*run)();
      fibers[threadIdx.x].done = true;
    }),
                  0);
  }
  for (bool left = true; left;) {
    left = false;
    for (unsigned i = 0; i < threads; ++i) {
      if (fibers[i].done) continue;
      threadIdx.x = i;
      running = &fibers[i].context;
      ::swapcontext(&scheduler, running);
      left = left || !fibers[i].done;
    }
  }
}

// What SGMD_LAUNCH makes; called with the kernel's arguments.
template <typename Kernel>
struct Launch {
  dim3 blocks;
  unsigned threads;
  int bytes;
  Kernel kernel;

  template <typename... Arguments>
  void operator()(const Arguments&... arguments) const {
    blockDim = dim3(threads);
    dynamic_shared.resize((static_cast<std::size_t>(bytes) + sizeof(float4) - 1) / sizeof(float4));
    auto body = [&] { kernel(arguments...); };
    for (blockIdx.y = 0; blockIdx.y < blocks.y; ++blockIdx.y) {
      for (blockIdx.x = 0; blockIdx.x < blocks.x; ++blockIdx.x) RunBlock(threads, body);
    }
  }
};
template <typename Kernel>
Launch(dim3, unsigned, int, Kernel) -> Launch<Kernel>;

}  // namespace cuda_on_cpu

inline void __syncthreads() { ::swapcontext(cuda_on_cpu::running, &cuda_on_cpu::scheduler); }
inline float __shfl_xor_sync(unsigned, float value, int distance) {
  const unsigned self = threadIdx.x;
  cuda_on_cpu::exchanged[self] = value;
  __syncthreads();
  const float other = cuda_on_cpu::exchanged[self ^ static_cast<unsigned>(distance)];
  __syncthreads();
  return other;
}

#define SGMD_LAUNCH(kernel, blocks, threads, bytes, stream)                                                     \
  ::cuda_on_cpu::Launch {                                                                                       \
    dim3(blocks), static_cast<unsigned>(threads), bytes, [](const auto&... arguments) { kernel(arguments...); } \
  }
#define SGMD_DYNAMIC_SHARED(type, name) type* const name = ::cuda_on_cpu::dynamic_shared.data()
