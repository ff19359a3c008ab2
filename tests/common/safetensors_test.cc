#include "common/storage/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

std::string File(const std::string& header, const std::string& data) {
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

class Safetensors : public testing::Test {
 protected:
  void ExpectRefused(const std::string& bytes, const std::string& why) {
    WriteFileAtomically(path_, bytes);
    try {
      SafetensorsFile::Open(path_);
      FAIL() << "accepted; expected: " << why;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(why));
      EXPECT_THAT(error.what(), testing::HasSubstr(path_.string()));
    }
  }
  TempFolder folder_;
  std::filesystem::path path_ = folder_ / "t.safetensors";
};

TEST_F(Safetensors, WritesTheFormatByteForByte) {
  const std::string small("\x01\x02", 2), large(8, 'z');
  const std::vector<TensorView> tensors{{"b", DType::kU8, {2}, Bytes(small)}, {"a", DType::kF32, {2, 1}, Bytes(large)}};
  WriteSafetensors(path_, tensors);
  std::string header = R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[8,10]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(ReadFile(path_), File(header, large + small));
}

TEST_F(Safetensors, ReadsBackScalarsAndEmptyTensors) {
  const std::string scalar(8, '\x05'), none;
  const std::vector<TensorView> tensors{{"s", DType::kI64, {}, Bytes(scalar)},
                                        {"e", DType::kBF16, {0, 3}, Bytes(none)}};
  WriteSafetensors(path_, tensors, {{"k", "v"}});
  const SafetensorsFile file = SafetensorsFile::Open(path_);
  EXPECT_EQ(file.At("s").shape, std::vector<std::int64_t>{});
  EXPECT_EQ(std::memcmp(file.At("s").bytes.data(), scalar.data(), 8), 0);
  EXPECT_EQ(file.At("e").bytes.size(), 0U);
  EXPECT_EQ(file.metadata().at("k"), "v");
  EXPECT_EQ(file.Find("x"), nullptr);
  EXPECT_THROW(file.At("x"), Error);
}

TEST_F(Safetensors, RefusesEveryTruncation) {
  const std::string data(16, 'd');
  const std::string whole = File(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", data);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    WriteFileAtomically(path_, whole.substr(0, size));
    EXPECT_THROW(SafetensorsFile::Open(path_), Error) << size;
  }
  WriteFileAtomically(path_, whole);
  EXPECT_NO_THROW(SafetensorsFile::Open(path_));
}

TEST_F(Safetensors, RefusesWhatIsOutsideTheFormat) {
  const std::string d8(8, 'd');
  ExpectRefused(std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8) + "{}", "header length");
  ExpectRefused(File("[]", ""), "begin with '{'");
  ExpectRefused(File("{\"a\":", ""), "not JSON");
  ExpectRefused(
      File(
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
          d8 + "dddd"),
      "hole");
  ExpectRefused(
      File(
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
          "dddddd"),
      "overlaps");
  ExpectRefused(File(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", d8), "after the last");
  ExpectRefused(File(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", d8), "disagree");
  ExpectRefused(File(R"({"a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,8]}})", d8), "overflow");
  ExpectRefused(File(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", d8), "non-negative");
  ExpectRefused(File(R"({"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})", d8), "tensor a");
  ExpectRefused(File(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", d8), "offsets");
  ExpectRefused(File(R"({"a":{"dtype":"F32","shape":[2]}})", d8), "data_offsets");
  ExpectRefused(
      File(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          d8),
      "duplicate key");
  ExpectRefused(File(R"({"__metadata__":{"x":1}})", ""), "not a string");
}

TEST_F(Safetensors, RefusesToWriteWhatItCouldNotRead) {
  const std::string bytes(4, 'x');
  const TensorView good{"a", DType::kF32, {1}, Bytes(bytes)}, wrong{"b", DType::kF32, {2}, Bytes(bytes)};
  EXPECT_THROW(WriteSafetensors(path_, std::vector{good, good}), Error);
  EXPECT_THROW(WriteSafetensors(path_, std::vector{wrong}), Error);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

}  // namespace
}  // namespace sgmd
