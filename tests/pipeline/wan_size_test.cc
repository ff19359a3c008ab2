// Against the tables of wan_facts §1.1, §5 and §7.
#include "pipeline/models/wan_size.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error/error.h"
#include "tests/support/real_config.h"

namespace sgmd {
namespace {

const std::vector<std::string> kAllTargets{"q", "k", "v", "o", "ffn.0", "ffn.2"};

// `value` is `table` to its last digit, which stands for `unit` and may be cut instead of rounded.
void ExpectRounded(double value, double table, double unit) { EXPECT_LT(std::abs(value - table), unit) << value; }

TEST(WanSize, ParameterCountsOfThePublishedModels) {
  EXPECT_EQ(ParameterCount(kWan1_3B), 1418996800);
  EXPECT_EQ(ParameterCount(kWan14B), 14288491584);
  EXPECT_EQ(ParameterCount(kWan5B), 4999787712);
  EXPECT_EQ(ParameterCount(kWanI2V14B), 16394878784);
  EXPECT_EQ(ParameterCount(kWanI2VA14B), 14288901184);
  ExpectRounded(2e-9 * static_cast<double>(BlockParameterCount(kWan14B)), 0.70, 0.01);  // GB of a bf16 block
}

TEST(WanSize, LoraParameterCountsAtRank64) {
  ExpectRounded(1e-6 * static_cast<double>(LoraParameterCount(kWan1_3B, 64, kAllTargets)), 87.5, 0.1);
  ExpectRounded(1e-6 * static_cast<double>(LoraParameterCount(kWan14B, 64, kAllTargets)), 306.7, 0.1);
  ExpectRounded(1e-6 * static_cast<double>(LoraParameterCount(kWan5B, 64, kAllTargets)), 161.2, 0.1);
  EXPECT_EQ(LoraParameterCount(kWan1_3B, 64, {"q"}), 30 * 2 * 64 * (1536 + 1536));
  EXPECT_EQ(LoraParameterCount(kWan1_3B, 64, {"self_attn.q"}), 30 * 64 * (1536 + 1536));
  EXPECT_THROW(LoraParameterCount(kWan1_3B, 64, {"norm_q"}), Error);
  EXPECT_EQ(LoraParameterCount(kWanI2V14B, 64, kAllTargets), LoraParameterCount(kWan14B, 64, kAllTargets));
}

TEST(WanSize, TokensOfTheRecipesLatents) {
  EXPECT_EQ(TokenCount(kWan1_3B, kLatent480p), 32760);
  EXPECT_EQ(TokenCount(kWan14B, kLatent720p), 75600);
  EXPECT_EQ(TokenCount(kWan5B, kLatent5B), 27280);
  EXPECT_EQ(TokenCount(kWanI2V14B, kLatent480p), 32760);  // of the channels of the videos, not of what goes in
}

TEST(WanSize, LatentsThatDoNotFitTheModelAreRefused) {
  EXPECT_THROW(TokenCount(kWan1_3B, kLatent5B), Error);       // 48 channels for a model of 16
  EXPECT_THROW(TokenCount(kWan5B, {48, 31, 45, 80}), Error);  // 720 pixels are 45 rows: not a whole number of patches
  EXPECT_THROW(TokenCount(kWan1_3B, {16, 21, 60}), Error);
}

TEST(WanSize, ForwardFlopsOfTheTable) {
  struct Row {
    WanConfig config;
    std::vector<std::int64_t> latent;
    double linear, linear_unit, self, self_unit, cross, total;
  };
  for (const Row& row :
       {Row{kWan1_3B, kLatent480p, 82.1, 0.1, 197.8, 0.1, 3.1, 283},
        Row{kWan14B, kLatent480p, 785, 1, 879, 1, 13.7, 1678}, Row{kWan14B, kLatent720p, 1810, 1, 4682, 1, 31.7, 6523},
        Row{kWan5B, kLatent5B, 237, 1, 274, 1, 5.2, 517}}) {
    const ForwardFlops flops = ForwardFlopsOf(row.config, TokenCount(row.config, row.latent));
    ExpectRounded(1e-12 * flops.linear, row.linear, row.linear_unit);
    ExpectRounded(1e-12 * flops.self_attention, row.self, row.self_unit);
    ExpectRounded(1e-12 * flops.cross_attention, row.cross, 0.1);
    ExpectRounded(1e-12 * flops.total(), row.total, 1);
  }
}

// 257 CLIP tokens: two Linears a block and their embedding, and an attention beside that to the text.
TEST(WanSize, ForwardFlopsOfImageToVideo) {
  const double n = 32760, d = 5120, patches = 2 * n * 4 * 20 * d;
  const ForwardFlops text = ForwardFlopsOf(kWan14B, 32760), image = ForwardFlopsOf(kWanI2VA14B, 32760),
                     clip = ForwardFlopsOf(kWanI2V14B, 32760);
  EXPECT_DOUBLE_EQ(image.linear, text.linear + patches);
  EXPECT_EQ(image.cross_attention, text.cross_attention);
  EXPECT_DOUBLE_EQ(clip.linear, image.linear + 257 * (40 * 4 * d * d + 2 * 1280 * (1280 + d)));
  EXPECT_DOUBLE_EQ(clip.cross_attention, text.cross_attention + 40 * 4 * n * 257 * d);
  EXPECT_EQ(clip.self_attention, text.self_attention);
}

TEST(WanSize, CheckpointedActivationsOfTheTable) {
  ExpectRounded(1e-9 * CheckpointBytes(kWan1_3B, 32760, 1, 2), 3.0, 0.1);
  ExpectRounded(1e-9 * CheckpointBytes(kWan5B, 27280, 1, 2), 5.0, 0.1);
  ExpectRounded(1e-9 * CheckpointBytes(kWan14B, 32760, 1, 2), 13.4, 0.1);
  ExpectRounded(1e-9 * CheckpointBytes(kWan14B, 75600, 1, 2), 31.0, 0.1);
  EXPECT_EQ(CheckpointBytes(kWan14B, 75600, 3, 4), 6 * CheckpointBytes(kWan14B, 75600, 1, 2));
}

TEST(WanSize, DeterministicAttentionTakesAGradientForEachBlockThatAddsToIt) {
  EXPECT_EQ(AttentionWorkspaceBytes(kWan1_3B, 32760, 1, 12, false), 4.0 * 32760 * 1536);
  EXPECT_EQ(AttentionWorkspaceBytes(kWan1_3B, 32760, 1, 12, true), 11 * 4.0 * 32760 * 1536);
  EXPECT_EQ(AttentionWorkspaceBytes(kWan14B, 32760, 1, 40, true), 4 * 4.0 * 32760 * 5120);
  EXPECT_EQ(AttentionWorkspaceBytes(kWan14B, 32760, 1, 5, true), 27 * 4.0 * 32760 * 640);  // of eight that share tokens
  EXPECT_EQ(AttentionWorkspaceBytes(kWan14B, 32760, 4, 40, true), 4 * 4.0 * 32760 * 5120);  // enough heads for all
}

TEST(WanSize, CheckpointingAndNarrowerBackwardPassesKeepLess) {
  const auto bytes = [](Backward backward, bool checkpoint) {
    return ActivationBytes(kWan1_3B, 32760, {.backward = backward, .checkpoint_blocks = checkpoint, .lora_rank = 64});
  };
  EXPECT_LT(bytes(Backward::kFull, true), bytes(Backward::kFull, false) / 10);
  EXPECT_LT(bytes(Backward::kAdapters, false), bytes(Backward::kFull, false));
  EXPECT_LT(bytes(Backward::kInput, false), bytes(Backward::kAdapters, false));
  EXPECT_LT(bytes(Backward::kNone, false), bytes(Backward::kInput, true));
}

}  // namespace
}  // namespace sgmd
