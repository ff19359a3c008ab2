#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/flow/random.h"
#include "pipeline/tensors/tensor_bytes.h"
#include "pipeline/text/prompt_cleaning.h"
#include "pipeline/text/umt5_encoder.h"
#include "pipeline/text/umt5_files.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

template <typename Action>
std::string Refusal(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Umt5, BucketsAreThoseOfTheFactSheet) {
  const std::vector<std::pair<int, int>> known{{0, 0},    {1, 17},    {-1, 1},    {7, 23},  {8, 24},
                                               {-8, 8},   {12, 25},   {16, 26},   {64, 30}, {128, 31},
                                               {500, 31}, {-128, 15}, {-500, 15}, {-7, 7}};
  for (const auto& [relative, bucket] : known) EXPECT_EQ(RelativePositionBucket(relative, 32, 128), bucket) << relative;
}

TEST(Umt5, TheDefaultIsXxl) {
  std::int64_t parameters = 0;
  const auto tensors = Umt5Tensors(Umt5Config{});
  for (const Umt5Tensor& tensor : tensors) {
    std::int64_t count = 1;
    for (const std::int64_t extent : tensor.shape) count *= extent;
    parameters += count;
  }
  EXPECT_EQ(tensors.size(), 242U);
  EXPECT_EQ(parameters, 5'680'910'336);
}

TEST(Umt5, KnowsWansNames) {
  EXPECT_EQ(Umt5WanName("shared.weight"), "token_embedding.weight");
  EXPECT_EQ(Umt5WanName("encoder.block.12.layer.1.DenseReluDense.wi_0.weight"), "blocks.12.ffn.gate.0.weight");
  EXPECT_EQ(Umt5WanName("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
            "blocks.0.pos_embedding.embedding.weight");
  EXPECT_THROW(Umt5WanName("encoder.block.0.layer.2.layer_norm.weight"), Error);
}

class TinyUmt5 : public testing::Test {
 protected:
  void Write(const std::function<void(NamedTensors&)>& change = [](auto&) {}) {
    WriteFileAtomically(folder_ / "config.json",
                        R"({"model_type":"umt5","feed_forward_proj":"gated-gelu","vocab_size":11,"d_model":8,"d_kv":4,
      "d_ff":12,"num_layers":2,"num_heads":3,"relative_attention_num_buckets":8,"relative_attention_max_distance":20})");
    NamedTensors tensors;
    for (const Umt5Tensor& tensor : Umt5Tensors(Umt5Config::FromFile(folder_ / "config.json"))) {
      tensors.emplace_back(tensor.name, Noise(tensor.shape, SeedFor(1, 0, 0, tensor.name)));
    }
    change(tensors);
    SaveTensors(folder_ / "model.safetensors", tensors);
  }
  std::string LoadRefusal(const std::filesystem::path& path) {
    return Refusal([&] { Umt5Encoder::Load(path, at::kCPU); });
  }
  TempFolder folder_;
};

TEST_F(TinyUmt5, AnyChangeOfAWeightIsAnotherDigest) {
  Write();
  const Digest one = Umt5Encoder::Load(folder_.path(), at::kCPU).digest();
  EXPECT_EQ(one, Umt5Encoder::Load(folder_ / "model.safetensors", at::kCPU).digest());
  Write([](NamedTensors& tensors) { tensors.back().second[3] += 1e-6; });
  EXPECT_NE(one, Umt5Encoder::Load(folder_.path(), at::kCPU).digest());
}

TEST_F(TinyUmt5, SaysWhatIsWrongWithTheFile) {
  Write([](NamedTensors& tensors) {
    tensors[1].second = at::zeros({9});
    tensors.pop_back();
    tensors.emplace_back("stray.weight", at::zeros({1}));
    tensors.emplace_back("decoder.final_layer_norm.weight", at::zeros({1}));
  });
  const std::string refusal = LoadRefusal(folder_.path());
  EXPECT_THAT(refusal, HasSubstr("shape of encoder.block.0.layer.0.layer_norm.weight is not the config's"));
  EXPECT_THAT(refusal, HasSubstr("missing: encoder.final_layer_norm.weight (or norm.weight)"));
  EXPECT_THAT(refusal, HasSubstr("unexpected: stray.weight"));
  EXPECT_THAT(refusal, testing::Not(HasSubstr("decoder")));
}

TEST_F(TinyUmt5, SendsPicklesToTheDiffusersRepository) {
  WriteFileAtomically(folder_ / "models_t5_umt5-xxl-enc-bf16.pth", "PK");
  WriteFileAtomically(folder_ / "Wan2.1_VAE.pth", "PK");
  for (const auto& path : {folder_.path(), folder_ / "models_t5_umt5-xxl-enc-bf16.pth"}) {
    EXPECT_THAT(LoadRefusal(path), HasSubstr("text_encoder/ of a -Diffusers repository"));
    EXPECT_THAT(LoadRefusal(path), HasSubstr("models_t5_umt5-xxl-enc-bf16.pth"));
  }
}

TEST_F(TinyUmt5, RefusesTokensThatItDoesNotHave) {
  Write();
  const Umt5Encoder encoder = Umt5Encoder::Load(folder_.path(), at::kCPU);
  EXPECT_THAT(Refusal([&] {
                encoder.Encode({3, 11, 1});
              }),
              HasSubstr("token 11 is outside the encoder's vocabulary of 11"));
  EXPECT_THROW(encoder.Encode({-1}), Error);
  EXPECT_THROW(encoder.Encode({}), Error);
  EXPECT_EQ(encoder.Encode({1}).sizes(), (std::vector<std::int64_t>{1, 8}));
}

TEST_F(TinyUmt5, RefusesAnotherKindOfModel) {
  Write();
  WriteFileAtomically(folder_ / "config.json", R"({"model_type":"t5"})");
  EXPECT_THAT(LoadRefusal(folder_.path()),
              HasSubstr("config.json: key \"model_type\" is \"t5\", only \"umt5\" is supported"));
}

TEST(PromptCleaning, LeavesPlainTextAlone) {
  for (const std::string text : {"a red ball, 3 < 4 & so on", "一只猫在草地上玩耍。", "naïve café — …", ""}) {
    EXPECT_EQ(CleanPrompt(text), text);
  }
}

TEST(PromptCleaning, StraightensUnescapesAndCollapses) {
  EXPECT_EQ(CleanPrompt("  “Tom &amp;amp; Jerry”\r\n，\u3000ｆａｓｔ "), "\"Tom & Jerry\" , fast");
  EXPECT_EQ(CleanPrompt("bytes \xff\xc0\xaf stay"), "bytes \xff\xc0\xaf stay");
}

TEST(PromptCleaning, FindsWhatIsNotUtf8) {
  EXPECT_EQ(FirstInvalidUtf8("a中\U0001f600"), std::string::npos);
  for (const std::string bad : {"ab\x80", "ab\xc0\x80", "ab\xed\xa0\x80", "ab\xf4\x90\x80\x80", "ab\xe4\xb8"}) {
    EXPECT_EQ(FirstInvalidUtf8(bad), 2U);
  }
}

void WriteBank(const std::filesystem::path& path, at::ScalarType type, std::int64_t negative_dim) {
  const at::Tensor a = Noise({3, 6}, 1).to(type), none = at::zeros({0, negative_dim}, type);
  const std::vector<TensorView> rows{ViewOf(DigestText("a").Hex(), a), ViewOf(DigestText("").Hex(), none)};
  WritePromptBank(path, rows, {"a"}, "", {{kPromptEncoderKey, "umt5 0123"}});
}

TEST(PromptBank, ReadsBfloat16RowsAsFloat32) {
  TempFolder folder;
  WriteBank(folder / "b.safetensors", at::kBFloat16, 6);
  const PromptBank bank = PromptBank::Open(folder / "b.safetensors");
  EXPECT_EQ(bank.encoder(), "umt5 0123");
  EXPECT_EQ(bank.text_dim(), 6);
  const at::Tensor rows = bank.Gather(bank.prompts(), 4);
  EXPECT_EQ(rows.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(rows[0].slice(0, 0, 3), Noise({3, 6}, 1).to(at::kBFloat16).to(at::kFloat)));
}

TEST(PromptBank, IsRefusedByAModelThatItDoesNotFit) {
  TempFolder folder;
  WriteBank(folder / "b.safetensors", at::kFloat, 6);
  const PromptBank bank = PromptBank::Open(folder / "b.safetensors");
  bank.RequireFits(6, 3);
  EXPECT_THAT(Refusal([&] { bank.RequireFits(8, 3); }), HasSubstr("the prompt bank has text_dim 6, the model 8"));
  EXPECT_THAT(Refusal([&] { bank.RequireFits(6, 2); }), HasSubstr("has prompts of 3 rows, the model takes 2"));
  WriteBank(folder / "mixed.safetensors", at::kFloat, 5);
  EXPECT_THAT(Refusal([&] { PromptBank::Open(folder / "mixed.safetensors"); }),
              HasSubstr("[rows, text_dim] like the others"));
}

}  // namespace
}  // namespace sgmd
