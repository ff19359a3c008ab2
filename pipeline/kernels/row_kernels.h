// Launchers of the operations of row_ops.h and element_ops.h on CUDA, with raw pointers to device memory: for a library
// that registers the operators of operators.h for that device. Neither LibTorch nor the CUDA toolkit is included.
//
// Widths are multiples of 8 up to 8192, arrays begin at multiples of 16 bytes; GELU takes multiples of 8 elements. Each
// returns null when it has launched, or what is wrong. T is float or Bf16.
#pragma once

#include <cstdint>

#include "pipeline/kernels/element_ops.h"

struct CUstream_st;

namespace sgmd::rows {

using Stream = CUstream_st*;

/// Widths and numbers of elements that the launchers take are multiples of this.
constexpr int kDeviceMultiple = 8;

/// Runs Norm, GatedAdd or RmsRotate on all rows, a block of threads each.
template <typename Op>
const char* LaunchRows(const Op& op, int width, std::int64_t rows, Stream stream);

/// Runs Gelu, GeluBackward or AdamW.
template <typename Op>
const char* LaunchElements(const Op& op, std::int64_t elements, Stream stream);

/// Runs a backward operation, a block of threads for each share of kDeviceShareRows rows of a sample. The sums of share
/// i go to parts + i Op::kSums width; parts null: they are not asked for.
constexpr std::int64_t kDeviceShareRows = 64;
template <typename Op>
const char* LaunchShares(const Op& op, int width, std::int64_t samples, std::int64_t tokens, float* parts,
                         Stream stream);

/// Adds up the sums number `which` of all shares in their order: into total [samples, width], or [width] where
/// `over_all` says so. `shares` a sample, `sums` a share.
const char* LaunchTotal(const float* parts, int which, int sums, std::int64_t samples, std::int64_t shares, int width,
                        bool over_all, float* total, Stream stream);

}  // namespace sgmd::rows
