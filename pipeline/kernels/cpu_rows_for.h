// The loops of cpu_rows.h for one instruction set: included by one file for each, which is compiled for it and names it
// in SGMD_ISA. Nothing else may be emitted by such a file, or the linker could give its code to a processor without it.
#pragma once

#include "pipeline/kernels/cpu_rows.h"
#include "pipeline/kernels/element_ops.h"

namespace sgmd::rows {

constexpr int kElementsAtOnce = 1024;  // of an operation that goes element by element

template <Isa isa, typename Op>
void RowsFor(const Op& op, int width, PackRoom* room, std::int64_t begin, std::int64_t end) {
  HostTeam team(width, room);
  for (std::int64_t row = begin; row < end; ++row) op(team, row);
}

template <Isa isa, typename Op>
void ElementsFor(const Op& op, std::int64_t begin, std::int64_t end) {
  PackRoom room[kElementsAtOnce / kLanes];
  for (std::int64_t first = begin; first < end; first += kElementsAtOnce) {
    const std::int64_t left = end - first;
    HostTeam team(left < kElementsAtOnce ? static_cast<int>(left) : kElementsAtOnce, room);
    op(team, first);
  }
}

template <Isa isa, typename Op>
void SharesFor(const Op& op, int width, PackRoom* room, std::int64_t tokens, float* parts, std::int64_t begin,
               std::int64_t end) {
  HostTeam team(width, room);
  const std::int64_t shares = SharesOf(tokens), size = static_cast<std::int64_t>(Op::kSums) * width;
  for (std::int64_t share = begin; share < end; ++share) {
    float* own = parts == nullptr ? nullptr : parts + share * size;
    if (own != nullptr) memset(own, 0, static_cast<std::size_t>(size) * sizeof(float));
    const std::int64_t first = share % shares * kShareRows, sample = share / shares * tokens;
    const std::int64_t last = first + kShareRows < tokens ? first + kShareRows : tokens;
    for (std::int64_t row = first; row < last; ++row) op(team, sample + row, own);
  }
}

#define SGMD_ROWS(...) template void RowsFor<SGMD_ISA>(const __VA_ARGS__&, int, PackRoom*, std::int64_t, std::int64_t);
#define SGMD_ELEMENTS(...) template void ElementsFor<SGMD_ISA>(const __VA_ARGS__&, std::int64_t, std::int64_t);
#define SGMD_SHARES(...)                                                                                    \
  template void SharesFor<SGMD_ISA>(const __VA_ARGS__&, int, PackRoom*, std::int64_t, float*, std::int64_t, \
                                    std::int64_t);

SGMD_OPERATIONS(float)
SGMD_OPERATIONS(Bf16)
SGMD_ELEMENTS(AdamW)

}  // namespace sgmd::rows
