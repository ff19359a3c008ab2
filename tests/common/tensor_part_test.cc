#include "common/storage/tensor_part.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "common/error/error.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

// One float32 tensor "w" of shape [3, 4], its elements 0 .. 11, and parts of it.
class TensorPartTest : public testing::Test {
 protected:
  TensorPart Part(std::int64_t from, std::int64_t to, std::int64_t replica = 0) const {
    TensorPart part;
    part.view = {"w", DType::kF32, {to - from}, std::as_bytes(std::span(values_).subspan(from, to - from))};
    part.shape = {3, 4};
    part.offset = from;
    part.replica = replica;
    return part;
  }

  std::filesystem::path Write(int rank, std::vector<TensorPart> parts) const {
    const auto path = folder_ / StrCat("rank", rank, ".safetensors");
    WriteTensorParts(path, parts);
    return path;
  }

  static std::vector<float> Read(const TensorParts& parts, std::int64_t from, std::int64_t count) {
    std::vector<float> out(count);
    parts.Read("w", from, std::as_writable_bytes(std::span(out)));
    return out;
  }

  TempFolder folder_;
  std::vector<float> values_ = [] {
    std::vector<float> values(12);
    std::iota(values.begin(), values.end(), 0.0F);
    return values;
  }();
};

TEST_F(TensorPartTest, AnotherNumberOfRanksReadsWhatSeveralWrote) {
  const auto whole = TensorParts::Open({Write(0, {Part(0, 5)}), Write(1, {Part(5, 5)}), Write(2, {Part(5, 12)})});
  EXPECT_EQ(whole.tensors().at("w").shape, (std::vector<std::int64_t>{3, 4}));
  EXPECT_EQ(Read(whole, 0, 12), values_);
  EXPECT_EQ(Read(whole, 0, 6), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(Read(whole, 6, 6), (std::vector<float>{6, 7, 8, 9, 10, 11}));
}

TEST_F(TensorPartTest, AWholeTensorIsAnOrdinaryOneInItsFile) {
  TensorPart part = Part(0, 12);
  part.view.shape = {3, 4};
  const SafetensorsFile file = SafetensorsFile::Open(Write(0, {TensorPart::Whole(part.view)}));
  EXPECT_EQ(file.At("w").shape, (std::vector<std::int64_t>{3, 4}));
  EXPECT_FALSE(file.metadata().contains("sgmd.parts"));
  EXPECT_EQ(Read(TensorParts::Open({file.path()}), 0, 12), values_);
}

TEST_F(TensorPartTest, TakesTheLowestReplica) {
  std::vector<float> other(12, -1.0F);
  TensorPart copy = Part(0, 12, 1);
  copy.view.bytes = std::as_bytes(std::span(other));
  EXPECT_EQ(Read(TensorParts::Open({Write(0, {copy}), Write(1, {Part(0, 12)})}), 0, 12), values_);
}

TEST_F(TensorPartTest, RefusesHolesOverlapsAndStrangers) {
  EXPECT_THAT(ErrorOf([&] {
                TensorParts::Open({Write(0, {Part(0, 5)}), Write(1, {Part(6, 12)})});
              }),
              HasSubstr("leave a hole at element 5"));
  EXPECT_THAT(ErrorOf([&] { TensorParts::Open({Write(0, {Part(0, 5)})}); }), HasSubstr("leave a hole at element 5"));
  EXPECT_THAT(ErrorOf([&] {
                TensorParts::Open({Write(0, {Part(0, 6)}), Write(1, {Part(5, 12)})});
              }),
              HasSubstr("overlap at element 5"));
  EXPECT_THAT(ErrorOf([&] {
                TensorParts::Open({Write(0, {Part(0, 5)}), Write(1, {Part(0, 12)})});
              }),
              HasSubstr("two parts of w begin at element 0"));
  TensorPart reshaped = Part(5, 12);
  reshaped.shape = {4, 3};
  EXPECT_THAT(ErrorOf([&] {
                TensorParts::Open({Write(0, {Part(0, 5)}), Write(1, {reshaped})});
              }),
              HasSubstr("disagree in shape or dtype"));
  TensorPart outside = Part(5, 12);
  outside.offset = 6;
  EXPECT_THAT(ErrorOf([&] { Write(0, {outside}); }), HasSubstr("does not lie inside"));
}

TEST_F(TensorPartTest, ReadsOnlyWhatIsInside) {
  const auto parts = TensorParts::Open({Write(0, {Part(0, 12)})});
  EXPECT_THROW(Read(parts, 8, 5), Error);
  EXPECT_THROW(Read(parts, -1, 2), Error);
}

}  // namespace
}  // namespace sgmd
