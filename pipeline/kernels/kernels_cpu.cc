// The operators on the CPU: rows are handed out to threads, shares of rows where sums are taken over them.
#include <ATen/Parallel.h>

#include <algorithm>

#include "pipeline/kernels/cpu_rows.h"
#include "pipeline/kernels/operators_on.h"

namespace sgmd::operators {
namespace {

constexpr std::int64_t kElementsAtLeast = 32768;  // what is worth a thread

rows::Isa Best() { return rows::Isas().back(); }

}  // namespace

struct Cpu {
  template <typename Op>
  static void Run(const Op& op, const Extents& e) {
    const std::int64_t grain = std::max<std::int64_t>(1, kElementsAtLeast / std::max(1, e.width));
    at::parallel_for(0, e.rows(), grain,
                     [&](std::int64_t begin, std::int64_t end) { rows::RunRows(Best(), op, e.width, begin, end); });
  }

  template <typename Op>
  static void RunEach(const Op& op, std::int64_t elements) {
    at::parallel_for(0, elements, kElementsAtLeast,
                     [&](std::int64_t begin, std::int64_t end) { rows::RunElements(Best(), op, begin, end); });
  }

  // Runs a backward operation. Returns the sums of shares, [B, shares, kSums, D], or nothing.
  template <typename Op>
  static Tensor RunWithSums(const Op& op, const Extents& e, const Tensor& x, bool sums) {
    const std::int64_t shares = rows::SharesOf(e.tokens);
    Tensor parts = Nothing(x);
    if (sums) parts = at::empty({e.samples, shares, Op::kSums, e.width}, parts.options());
    float* of_shares = sums ? NewFloats(parts) : nullptr;
    at::parallel_for(0, e.samples * shares, 1, [&](std::int64_t begin, std::int64_t end) {
      rows::RunShares(Best(), op, e.width, e.tokens, of_shares, begin, end);
    });
    return parts;
  }

  // Adds up the sums number `which` of all shares in their order, into `shape`: one row of D, or one for each sample.
  static Tensor Total(const Tensor& parts, std::int64_t which, at::IntArrayRef shape) {
    if (parts.dim() == 1) return parts.clone();
    Tensor total = at::zeros(shape, parts.options());
    const std::int64_t samples = parts.size(0), shares = parts.size(1), width = parts.size(3);
    const std::int64_t stride = parts.size(2) * width, into = shape.size() == 1 ? 0 : width;
    const float* from = Floats(parts) + which * width;
    float* to = NewFloats(total);
    at::parallel_for(0, width, 1024, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t sample = 0; sample < samples; ++sample) {
        for (std::int64_t share = 0; share < shares; ++share) {
          const float* row = from + (sample * shares + share) * stride;
          float* sum = to + sample * into;
          for (std::int64_t i = begin; i < end; ++i) sum[i] += row[i];
        }
      }
    });
    return total;
  }
};

template struct OperatorsOn<Cpu>;

}  // namespace sgmd::operators
