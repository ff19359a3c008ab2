// The row operators on CUDA: registered under the names that the CPU's have when this library is loaded.
#include <c10/cuda/CUDAStream.h>

#include "pipeline/kernels/operators_on.h"
#include "pipeline/kernels/row_kernels.h"

namespace sgmd::operators {

struct Cuda {
  template <typename Op>
  static void Run(const Op& op, const Extents& e) {
    Require(rows::LaunchRows(op, e.width, e.rows(), Stream()));
  }

  template <typename Op>
  static void RunEach(const Op& op, std::int64_t elements) {
    Require(rows::LaunchElements(op, elements, Stream()));
  }

  template <typename Op>
  static Tensor RunWithSums(const Op& op, const Extents& e, const Tensor& x, bool sums) {
    const std::int64_t shares = (e.tokens + rows::kDeviceShareRows - 1) / rows::kDeviceShareRows;
    Tensor parts = Nothing(x);
    if (sums) parts = at::empty({e.samples, shares, Op::kSums, e.width}, parts.options());
    Require(rows::LaunchShares(op, e.width, e.samples, e.tokens, sums ? NewFloats(parts) : nullptr, Stream()));
    return parts;
  }

  static Tensor Total(const Tensor& parts, std::int64_t which, at::IntArrayRef shape) {
    if (parts.dim() == 1) return parts.clone();
    Tensor total = at::empty(shape, parts.options());
    Require(rows::LaunchTotal(Floats(parts), static_cast<int>(which), static_cast<int>(parts.size(2)), parts.size(0),
                              parts.size(1), static_cast<int>(parts.size(3)), /*over_all=*/shape.size() == 1,
                              NewFloats(total), Stream()));
    return total;
  }

 private:
  static rows::Stream Stream() { return c10::cuda::getCurrentCUDAStream().stream(); }
  static void Require(const char* wrong) { TORCH_CHECK(wrong == nullptr, "CUDA error: ", wrong); }
};

template struct OperatorsOn<Cuda>;

}  // namespace sgmd::operators

TORCH_LIBRARY_IMPL(sgmd, CUDA, library) { sgmd::operators::OperatorsOn<sgmd::operators::Cuda>::Register(library); }
