// The umT5 encoder against transformers' UMT5EncoderModel.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/tensors/tensor_bytes.h"
#include "pipeline/text/umt5_encoder.h"

namespace sgmd {
namespace {

const std::filesystem::path kFolder = SGMD_PARITY_DIR;

struct Expected {
  std::vector<std::vector<std::int64_t>> ids;
  std::vector<at::Tensor> rows;
};

Expected ReadExpected(const std::string& name) {
  const auto file = SafetensorsFile::Open(kFolder / name / "expected.safetensors.out");
  Expected expected;
  for (int i = 0; file.Find(StrCat("ids.", i)) != nullptr; ++i) {
    const at::Tensor ids = CopyToTensor(file.At(StrCat("ids.", i)));
    expected.ids.emplace_back(ids.const_data_ptr<std::int64_t>(), ids.const_data_ptr<std::int64_t>() + ids.numel());
    expected.rows.push_back(CopyToTensor(file.At(StrCat("rows.", i))));
  }
  return expected;
}

double RelativeError(const at::Tensor& ours, const at::Tensor& theirs) {
  return ((ours - theirs).abs().max() / theirs.abs().max()).item<double>();
}

Umt5Encoder LoadCase(const std::string& name) {
  at::set_num_threads(1);
  return Umt5Encoder::Load(kFolder / name, at::kCPU);
}

class Umt5Parity : public testing::TestWithParam<std::string> {};

TEST_P(Umt5Parity, GivesTheRowsOfTransformers) {
  const Umt5Encoder encoder = LoadCase(GetParam());
  const Expected expected = ReadExpected(GetParam());
  ASSERT_GE(expected.ids.size(), 2U);
  double worst = 0;
  for (std::size_t i = 0; i < expected.ids.size(); ++i) {
    const at::Tensor rows = encoder.Encode(expected.ids[i]);
    ASSERT_EQ(rows.sizes(), expected.rows[i].sizes());
    worst = std::max(worst, RelativeError(rows, expected.rows[i]));
  }
  RecordProperty("max_relative_error", StrCat(worst));
  std::printf("max relative error %.2e\n", worst);
  EXPECT_LE(worst, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Cases, Umt5Parity,
                         testing::Values("small", "small_bf16_sharded", "small_bf16_wan", "narrow_fp16", "deep"),
                         [](const auto& info) { return info.param; });

TEST(Umt5ParityFiles, EncodingTogetherIsBitwiseEncodingAlone) {
  const Umt5Encoder encoder = LoadCase("deep");
  const Expected expected = ReadExpected("deep");
  const auto together = encoder.EncodeAll(expected.ids);
  for (std::size_t i = 0; i < expected.ids.size(); ++i) {
    EXPECT_TRUE(at::equal(together[i], encoder.Encode(expected.ids[i])));
  }
}

TEST(Umt5ParityFiles, OneEncoderHasOneDigestWhateverItsNamesAndShards) {
  const Digest sharded = LoadCase("small_bf16_sharded").digest();
  EXPECT_EQ(sharded, LoadCase("small_bf16_wan").digest());
  EXPECT_NE(sharded, LoadCase("small").digest()) << "float32 and bfloat16 weights give other rows";
}

TEST(Umt5ParityFiles, BucketsAreThoseOfTransformersAtEveryDistance) {
  for (const auto& c : nlohmann::json::parse(ReadFile(kFolder / "buckets.json"))) {
    std::int64_t relative = c["first"];
    for (const std::int64_t bucket : c["expected"]) {
      EXPECT_EQ(RelativePositionBucket(relative, c["buckets"], c["distance"]), bucket)
          << relative << " of " << c["buckets"] << " buckets up to " << c["distance"];
      ++relative;
    }
  }
}

}  // namespace
}  // namespace sgmd
