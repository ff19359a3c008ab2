#include "pipeline/kernels/row_kernels.h"

#include <cuda_runtime.h>

// Both are macros so that the tests can run this file on the CPU (tests/support/cuda_on_cpu).
#ifndef SGMD_LAUNCH
#define SGMD_LAUNCH(kernel, blocks, threads, bytes, stream) kernel<<<blocks, threads, bytes, stream>>>
#define SGMD_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

namespace sgmd::rows {
namespace {

constexpr int kElementThreads = 256;

template <typename Team, typename Op>
__global__ void __launch_bounds__(Team::kThreads) Rows(Op op, int width) {
  Team team(width);
  op(team, blockIdx.x);
}

template <typename Op>
__global__ void __launch_bounds__(kElementThreads) Elements(Op op, std::int64_t elements) {
  using Team = BlockTeam<1, kElementThreads>;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * Team::kMostWidth, left = elements - first;
  Team team(left < Team::kMostWidth ? static_cast<int>(left) : Team::kMostWidth);
  op(team, first);
}

// The sums of a share are gathered in shared memory. Every thread has its own columns, so that nobody waits.
template <typename Team, typename Op>
__global__ void __launch_bounds__(Team::kThreads) Shares(Op op, int width, std::int64_t tokens, float* parts) {
  SGMD_DYNAMIC_SHARED(float4, shared);
  float* const sums = parts == nullptr ? nullptr : reinterpret_cast<float*>(shared);
  Team team(width);
  if (sums != nullptr) {
    team.Each([&](Pack&, Whole at) {
      for (int i = 0; i < Op::kSums; ++i) Store(sums + i * width, at, Fill(0));
    });
  }
  const std::int64_t shares = (tokens + kDeviceShareRows - 1) / kDeviceShareRows, share = blockIdx.x;
  const std::int64_t first = share % shares * kDeviceShareRows, sample = share / shares * tokens;
  const std::int64_t last = first + kDeviceShareRows < tokens ? first + kDeviceShareRows : tokens;
  for (std::int64_t row = first; row < last; ++row) op(team, sample + row, sums);
  if (sums != nullptr) {
    float* const own = parts + share * Op::kSums * width;
    team.Each([&](Pack&, Whole at) {
      for (int i = 0; i < Op::kSums; ++i) Store(own + i * width, at, Load(sums + i * width, at));
    });
  }
}

__global__ void Total(const float* from, std::int64_t stride, std::int64_t shares, int width, float* total) {
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (column >= width) return;
  const float* first = from + blockIdx.y * shares * stride + column;
  float sum = 0;
  for (std::int64_t share = 0; share < shares; ++share) sum += first[share * stride];
  total[static_cast<std::int64_t>(blockIdx.y) * width + column] = sum;
}

const char* Launched() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// Calls `launch` with the smallest team that has room for a row.
template <typename F>
const char* WithTeam(int width, const F& launch) {
  if (width <= 0 || width % kLanes != 0) return "the width of a row must be a multiple of 8";
  if (width <= BlockTeam<1, 192>::kMostWidth) return launch(static_cast<BlockTeam<1, 192>*>(nullptr));  // 1536
  if (width <= BlockTeam<2, 192>::kMostWidth) return launch(static_cast<BlockTeam<2, 192>*>(nullptr));  // 3072
  if (width <= BlockTeam<2, 320>::kMostWidth) return launch(static_cast<BlockTeam<2, 320>*>(nullptr));  // 5120
  if (width <= BlockTeam<4, 256>::kMostWidth) return launch(static_cast<BlockTeam<4, 256>*>(nullptr));  // 8192
  return "a row is wider than 8192";
}

}  // namespace

template <typename Op>
const char* LaunchRows(const Op& op, int width, std::int64_t rows, Stream stream) {
  if (rows == 0) return nullptr;
  return WithTeam(width, [&]<typename Team>(Team*) {
    SGMD_LAUNCH(Rows<Team>, static_cast<unsigned>(rows), Team::kThreads, 0, stream)(op, width);
    return Launched();
  });
}

template <typename Op>
const char* LaunchElements(const Op& op, std::int64_t elements, Stream stream) {
  if (elements % kLanes != 0) return "elements must be a multiple of 8";
  if (elements == 0) return nullptr;
  const std::int64_t at_once = BlockTeam<1, kElementThreads>::kMostWidth;
  const std::int64_t blocks = (elements + at_once - 1) / at_once;
  SGMD_LAUNCH(Elements, static_cast<unsigned>(blocks), kElementThreads, 0, stream)(op, elements);
  return Launched();
}

template <typename Op>
const char* LaunchShares(const Op& op, int width, std::int64_t samples, std::int64_t tokens, float* parts,
                         Stream stream) {
  if (samples * tokens == 0) return nullptr;
  return WithTeam(width, [&]<typename Team>(Team*) -> const char* {
    const std::int64_t blocks = samples * ((tokens + kDeviceShareRows - 1) / kDeviceShareRows);
    const int bytes = parts == nullptr ? 0 : Op::kSums * width * static_cast<int>(sizeof(float));
    const cudaError_t allowed =
        cudaFuncSetAttribute(Shares<Team, Op>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (allowed != cudaSuccess) return cudaGetErrorString(allowed);
    SGMD_LAUNCH(Shares<Team>, static_cast<unsigned>(blocks), Team::kThreads, bytes, stream)(op, width, tokens, parts);
    return Launched();
  });
}

const char* LaunchTotal(const float* parts, int which, int sums, std::int64_t samples, std::int64_t shares, int width,
                        bool over_all, float* total, Stream stream) {
  const dim3 blocks((width + 127) / 128, over_all ? 1 : static_cast<unsigned>(samples));
  const std::int64_t stride = static_cast<std::int64_t>(sums) * width, of_one = over_all ? samples * shares : shares;
  SGMD_LAUNCH(Total, blocks, 128, 0, stream)
  (parts + static_cast<std::int64_t>(which) * width, stride, of_one, width, total);
  return Launched();
}

#define SGMD_ROWS(...) template const char* LaunchRows(const __VA_ARGS__&, int, std::int64_t, Stream);
#define SGMD_ELEMENTS(...) template const char* LaunchElements(const __VA_ARGS__&, std::int64_t, Stream);
#define SGMD_SHARES(...) \
  template const char* LaunchShares(const __VA_ARGS__&, int, std::int64_t, std::int64_t, float*, Stream);

SGMD_OPERATIONS(float)
SGMD_OPERATIONS(Bf16)
SGMD_ELEMENTS(AdamW)

}  // namespace sgmd::rows
