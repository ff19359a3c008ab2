// One row of a tensor worked on by a team: on the CPU one thread with packs of lanes, in CUDA one block of threads. Row
// operations (row_ops.h) are written once against a team:
//   Each(f)  calls f(pack, at) for all packs of the row; what is left in a pack is there in the next Each
//   Sum(p)   the sum of what the lanes of p have gathered, over the whole row, in an order that the width alone decides
// Nothing here knows of ATen, so that nvcc can compile it alone.
//
// On the CPU a pack has 16 lanes whatever the instruction set, and no step of the arithmetic is left to it: the same
// source gives the same bits with SSE2, AVX2 and AVX-512, provided that multiplications and additions are not
// contracted (-ffp-contract=off). Everything is inlined always: files that are compiled for different instruction sets
// share no function through this header.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define SGMD_ROW_FN __host__ __device__ __forceinline__
#define SGMD_ROW_LAMBDA
#else
#define SGMD_ROW_FN inline __attribute__((always_inline))
#define SGMD_ROW_LAMBDA __attribute__((always_inline))
#endif

namespace sgmd::rows {

/// A bfloat16 as it lies in memory.
struct Bf16 {
  std::uint16_t bits;
};

#ifdef __CUDACC__
constexpr int kLanes = 8;  // 16 bytes of bfloat16
#else
constexpr int kLanes = 16;  // one register of AVX-512
#endif

/// Where a pack lies in its row: all lanes from `first` on, or the `count` that are left of it.
struct Whole {
  int first;
};
struct Rest {
  int first, count;
};

}  // namespace sgmd::rows

#ifdef __CUDACC__
#include "pipeline/kernels/cuda_team.h"
#else
#include "pipeline/kernels/host_team.h"
#endif
