// The operations of row_ops.h and element_ops.h over ranges of rows on the CPU, compiled for several instruction sets.
// Which one runs changes the time, not a bit of the result.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/kernels/element_ops.h"

namespace sgmd::rows {

/// For x86-64: SSE2, AVX2, AVX-512 (F, BW, DQ, VL). Elsewhere the first alone, which is the compiler's default there.
enum class Isa { kBaseline, kAvx2, kAvx512 };

/// Those that this processor has, the fastest last.
const std::vector<Isa>& Isas();

/// Sums over rows are those of fixed shares of them, added up in their order: the same bits for any number of threads.
constexpr std::int64_t kShareRows = 64;
inline std::int64_t SharesOf(std::int64_t tokens) { return (tokens + kShareRows - 1) / kShareRows; }

/// The loops for one instruction set, defined by cpu_rows_<isa>.cc; `room` is for one row.
template <Isa isa, typename Op>
void RowsFor(const Op& op, int width, PackRoom* room, std::int64_t begin, std::int64_t end);
template <Isa isa, typename Op>
void ElementsFor(const Op& op, std::int64_t begin, std::int64_t end);
template <Isa isa, typename Op>
void SharesFor(const Op& op, int width, PackRoom* room, std::int64_t tokens, float* parts, std::int64_t begin,
               std::int64_t end);

#ifdef __x86_64__
#define SGMD_ON_ISA(isa, function, ...)                 \
  switch (isa) {                                        \
    case Isa::kBaseline:                                \
      return function<Isa::kBaseline, Op>(__VA_ARGS__); \
    case Isa::kAvx2:                                    \
      return function<Isa::kAvx2, Op>(__VA_ARGS__);     \
    case Isa::kAvx512:                                  \
      return function<Isa::kAvx512, Op>(__VA_ARGS__);   \
  }
#else
#define SGMD_ON_ISA(isa, function, ...) return function<Isa::kBaseline, Op>(__VA_ARGS__);
#endif

/// Runs `op` on the rows [begin, end) of `width`.
template <typename Op>
void RunRows(Isa isa, const Op& op, int width, std::int64_t begin, std::int64_t end) {
  std::vector<PackRoom> room(static_cast<std::size_t>((width + kLanes - 1) / kLanes));
  SGMD_ON_ISA(isa, RowsFor, op, width, room.data(), begin, end)
}

/// Runs an operation that goes element by element, such as Gelu, on the elements [begin, end).
template <typename Op>
void RunElements(Isa isa, const Op& op, std::int64_t begin, std::int64_t end) {
  SGMD_ON_ISA(isa, ElementsFor, op, begin, end)
}

/// Runs a backward operation on the shares [begin, end); a sample of `tokens` rows has SharesOf(tokens). The sums of
/// share i go to parts + i Op::kSums width; parts null: they are not asked for.
template <typename Op>
void RunShares(Isa isa, const Op& op, int width, std::int64_t tokens, float* parts, std::int64_t begin,
               std::int64_t end) {
  std::vector<PackRoom> room(static_cast<std::size_t>((width + kLanes - 1) / kLanes));
  SGMD_ON_ISA(isa, SharesFor, op, width, room.data(), tokens, parts, begin, end)
}

#undef SGMD_ON_ISA

}  // namespace sgmd::rows
