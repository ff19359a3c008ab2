#include "common/storage/tensor_view.h"

#include <gtest/gtest.h>

#include <limits>

namespace sgmd {
namespace {

template <typename T>
TensorView View(DType dtype, const std::vector<T>& values) {
  return {"", dtype, {static_cast<std::int64_t>(values.size())}, std::as_bytes(std::span(values))};
}

TEST(AllFinite, FindsOneValueOfAnyKindAtAnyPlace) {
  std::vector<float> values(3001, std::numeric_limits<float>::max());
  EXPECT_TRUE(AllFinite(View(DType::kF32, values)));
  for (const std::size_t at : {0, 1023, 1024, 3000}) {
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
      std::vector<float> with = values;
      with[at] = bad;
      EXPECT_FALSE(AllFinite(View(DType::kF32, with))) << bad << " at " << at;
    }
  }
}

TEST(AllFinite, KnowsTheExponentOfEveryFloatingType) {
  const std::vector<std::uint16_t> largest_f16{0x7BFF, 0xFBFF}, infinite_f16{0x7C00}, nan_f16{0xFE00};
  EXPECT_TRUE(AllFinite(View(DType::kF16, largest_f16)));
  EXPECT_FALSE(AllFinite(View(DType::kF16, infinite_f16)));
  EXPECT_FALSE(AllFinite(View(DType::kF16, nan_f16)));
  const std::vector<std::uint16_t> largest_bf16{0x7F7F, 0xFF7F}, infinite_bf16{0x7F80}, nan_bf16{0xFFC0};
  EXPECT_TRUE(AllFinite(View(DType::kBF16, largest_bf16)));
  EXPECT_FALSE(AllFinite(View(DType::kBF16, infinite_bf16)));
  EXPECT_FALSE(AllFinite(View(DType::kBF16, nan_bf16)));
  EXPECT_TRUE(AllFinite(View(DType::kF64, std::vector{1e300})));
  EXPECT_FALSE(AllFinite(View(DType::kF64, std::vector{std::numeric_limits<double>::infinity()})));
  const std::vector<std::uint16_t> integers{0xFFFF};
  EXPECT_TRUE(AllFinite(View(DType::kU16, integers)));
}

TEST(AllFinite, ReadsBytesThatAreNotAligned) {
  std::vector<float> values(8, 1.0F);
  values[3] = std::numeric_limits<float>::quiet_NaN();
  std::vector<std::byte> shifted(1 + 32);
  std::copy_n(std::as_bytes(std::span(values)).begin(), 32, shifted.begin() + 1);
  EXPECT_FALSE(AllFinite({"", DType::kF32, {8}, std::span(shifted).subspan(1)}));
}

}  // namespace
}  // namespace sgmd
