#include "common/storage/sharded_safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <list>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using ::testing::HasSubstr;

class ShardedSafetensorsTest : public ::testing::Test {
 protected:
  // One byte a tensor: its value tells where it came from.
  void WriteShard(const std::string& file, const std::vector<std::string>& names, std::byte value) {
    std::vector<TensorView> views;
    values_.push_back(value);
    for (const std::string& name : names) views.push_back({name, DType::kU8, {1}, std::span(&values_.back(), 1)});
    WriteSafetensors(folder_ / file, views);
  }
  void WriteIndex(const std::string& weight_map) {
    WriteFileAtomically(folder_ / "model.safetensors.index.json",
                        R"({"metadata":{"total_size":3},"weight_map":)" + weight_map + "}");
  }
  std::string Refusal() const {
    try {
      ShardedSafetensors::Open(folder_.path());
    } catch (const Error& error) {
      return error.what();
    }
    return "opened";
  }
  TempFolder folder_;
  std::list<std::byte> values_;
};

TEST_F(ShardedSafetensorsTest, FindsEveryTensorOfEveryShard) {
  WriteShard("a.safetensors", {"x", "y"}, std::byte{1});
  WriteShard("b.safetensors", {"z"}, std::byte{2});
  WriteIndex(R"({"x":"a.safetensors","y":"a.safetensors","z":"b.safetensors"})");
  const auto model = ShardedSafetensors::Open(folder_.path());
  EXPECT_EQ(model.tensors().size(), 3U);
  EXPECT_EQ(model.At("y").bytes[0], std::byte{1});
  EXPECT_EQ(model.At("z").bytes[0], std::byte{2});
  EXPECT_EQ(model.Find("w"), nullptr);
}

TEST_F(ShardedSafetensorsTest, TakesAFolderWithOneFile) {
  WriteShard("only.safetensors", {"x"}, std::byte{7});
  EXPECT_EQ(ShardedSafetensors::Open(folder_.path()).At("x").bytes[0], std::byte{7});
}

TEST_F(ShardedSafetensorsTest, NamesWhatIsMissing) {
  EXPECT_THAT(Refusal(), HasSubstr("no *.safetensors here"));
  WriteShard("a.safetensors", {"x"}, std::byte{1});
  WriteIndex(R"({"x":"a.safetensors","z":"b.safetensors"})");
  EXPECT_THAT(Refusal(), HasSubstr("shard b.safetensors is missing"));
  WriteIndex(R"({"x":"a.safetensors","z":"a.safetensors"})");
  EXPECT_THAT(Refusal(), HasSubstr("lacks \"z\""));
  WriteIndex(R"({"other":"a.safetensors"})");
  EXPECT_THAT(Refusal(), HasSubstr("holds \"x\""));
}

TEST_F(ShardedSafetensorsTest, RefusesAFolderThatCouldMeanTwoModels) {
  WriteShard("a.safetensors", {"x"}, std::byte{1});
  WriteShard("b.safetensors", {"x"}, std::byte{2});
  EXPECT_THAT(Refusal(), HasSubstr("2 files end in .safetensors"));
}

TEST_F(ShardedSafetensorsTest, RefusesAnIndexThatLeavesTheFolder) {
  WriteIndex(R"({"x":"../a.safetensors"})");
  EXPECT_THAT(Refusal(), HasSubstr("not a plain file name"));
}

}  // namespace
}  // namespace sgmd
