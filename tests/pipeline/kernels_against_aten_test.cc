// The fused row kernels against the chains of ATen's operations that they stand for.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/pipeline/kernel_operations.h"

namespace sgmd {
namespace {

class RowKernels : public testing::TestWithParam<Operation> {
 protected:
  void SetUp() override { at::manual_seed(7); }
  void TearDown() override { at::set_num_threads(1); }
};

TEST_P(RowKernels, GiveWhatATenGivesInFloat32) {
  for (const std::int64_t width : kWidths) {
    const Tensors inputs = GetParam().draw(2, 70, width, at::kFloat);
    const Tensors found = ValuesAndGradients(GetParam(), Kernels::kFused, inputs);
    const Tensors expected = ValuesAndGradients(GetParam(), Kernels::kReference, inputs);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i].sizes(), expected[i].sizes()) << width << " " << i;
      EXPECT_EQ(found[i].scalar_type(), at::kFloat) << width << " " << i;
      EXPECT_LE(LargestError(found[i], expected[i]), 2e-6) << width << " " << i;
    }
  }
}

// Both round to bfloat16 in the same places, but that the fused kernels do not round gradients in between: half a unit
// in the last place is 0.002.
TEST_P(RowKernels, AreAsNearToFloat64AsATenInBfloat16) {
  for (const std::int64_t width : kWidths) {
    const Tensors inputs = GetParam().draw(2, 70, width, at::kBFloat16);
    Tensors wide;
    for (const at::Tensor& t : inputs)
      wide.push_back(!t.defined() ? t : t.to(t.is_complex() ? at::kComplexDouble : at::kDouble));
    const Tensors found = ValuesAndGradients(GetParam(), Kernels::kFused, inputs);
    const Tensors aten = ValuesAndGradients(GetParam(), Kernels::kReference, inputs);
    const Tensors exact = ValuesAndGradients(GetParam(), Kernels::kReference, wide);
    ASSERT_EQ(found.size(), aten.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i].sizes(), aten[i].sizes()) << width << " " << i;
      EXPECT_EQ(found[i].scalar_type(), aten[i].scalar_type()) << width << " " << i;
      EXPECT_LE(LargestError(found[i], exact[i]), LargestError(aten[i], exact[i]) + 0.002) << width << " " << i;
    }
  }
}

TEST_P(RowKernels, GiveTheSameBitsForAnyNumberOfThreads) {
  for (const std::int64_t width : kWidths) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const Tensors inputs = GetParam().draw(2, 150, width, dtype);
      at::set_num_threads(1);
      const Tensors alone = ValuesAndGradients(GetParam(), Kernels::kFused, inputs);
      at::set_num_threads(2);
      const Tensors shared = ValuesAndGradients(GetParam(), Kernels::kFused, inputs);
      for (std::size_t i = 0; i < alone.size(); ++i) EXPECT_TRUE(at::equal(alone[i], shared[i])) << width << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Operations, RowKernels, testing::ValuesIn(kOperations),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sgmd
