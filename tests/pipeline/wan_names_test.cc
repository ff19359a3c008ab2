#include "pipeline/models/wan_names.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "common/error/error.h"
#include "pipeline/models/wan_transformer.h"
#include "tests/support/tiny_config.h"

namespace sgmd {
namespace {

TEST(WanNames, TranslatesEveryParameterBothWays) {
  const WanTransformer model(TinyWanConfig(12), at::kMeta);  // blocks of two digits too
  std::set<std::string> translated;
  for (const auto& [name, parameter] : model.parameters()) {
    const std::string there = DiffusersName(name);
    EXPECT_TRUE(translated.insert(there).second) << there;
    EXPECT_EQ(OriginalName(there), name);
  }
}

TEST(WanNames, DiffusersNorm2IsTheOriginalNorm3) {
  EXPECT_EQ(DiffusersName("blocks.3.norm3.weight"), "blocks.3.norm2.weight");
  EXPECT_EQ(OriginalName("blocks.3.norm2.bias"), "blocks.3.norm3.bias");
  EXPECT_THROW(OriginalName("blocks.3.norm3.weight"), Error);  // without parameters there
  EXPECT_THROW(DiffusersName("blocks.3.norm2.weight"), Error);
}

TEST(WanNames, TheHeadsModulationIsNotABlocks) {
  EXPECT_EQ(DiffusersName("head.modulation"), "scale_shift_table");
  EXPECT_EQ(DiffusersName("blocks.0.modulation"), "blocks.0.scale_shift_table");
  EXPECT_EQ(OriginalName("scale_shift_table"), "head.modulation");
  EXPECT_THROW(DiffusersName("modulation"), Error);
}

TEST(WanNames, KeepsWhatFollowsTheModule) {
  EXPECT_EQ(DiffusersName("blocks.10.self_attn.o"), "blocks.10.attn1.to_out.0");
  EXPECT_EQ(OriginalName("blocks.10.attn2.to_k.lora_A.weight"), "blocks.10.cross_attn.k.lora_A.weight");
  EXPECT_EQ(DiffusersName("blocks.1.ffn.0.bias"), "blocks.1.ffn.net.0.proj.bias");
}

TEST(WanNames, NamesWhatItDoesNotKnow) {
  for (const char* name : {"blocks.0.self_attn.k_img.weight", "img_emb.emb_pos", "blocks.x.norm3.weight",
                           "blocks.3.norm33.weight", "", "blocks."}) {
    EXPECT_FALSE(FindDiffusersName(name)) << name;
    try {
      DiffusersName(name);
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(StrCat('"', name, '"')));
    }
  }
}

TEST(WanNames, TakesPrefixesOff) {
  EXPECT_EQ(WithoutModelPrefix("model.diffusion_model.head.modulation"), "head.modulation");
  EXPECT_EQ(WithoutModelPrefix("diffusion_model.head.modulation"), "head.modulation");
  EXPECT_EQ(WithoutModelPrefix("head.modulation"), "head.modulation");
}

// wan_facts §1.1, without the memory.
struct Published {
  const char* name;
  std::int64_t dim, heads, layers, ffn, channels;
  std::size_t tensors;
  std::int64_t parameters;
  std::int64_t channels_in = 0, image_dim = 0;  // of image-to-video
};

class FullSize : public testing::TestWithParam<Published> {};

TEST_P(FullSize, HasThePublishedTensors) {
  const Published& m = GetParam();
  WanConfig c;
  c.dim = m.dim;
  c.num_heads = m.heads;
  c.num_layers = m.layers;
  c.ffn_dim = m.ffn;
  c.in_dim = c.out_dim = m.channels;
  if (m.channels_in > 0) c.in_dim = m.channels_in;
  c.image_dim = m.image_dim;
  const WanTransformer model(c, at::kMeta);
  EXPECT_EQ(model.parameters().size(), m.tensors);
  EXPECT_EQ(model.ParameterCount(), m.parameters);
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const auto& [name, p] : model.parameters()) shapes[name] = p.sizes().vec();
  const std::int64_t d = m.dim, last = m.layers - 1;
  using Shape = std::vector<std::int64_t>;
  EXPECT_EQ(shapes.at("patch_embedding.weight"), (Shape{d, c.in_dim, 1, 2, 2}));
  EXPECT_EQ(shapes.at("text_embedding.0.weight"), (Shape{d, 4096}));
  EXPECT_EQ(shapes.at("time_embedding.0.weight"), (Shape{d, 256}));
  EXPECT_EQ(shapes.at("time_projection.1.weight"), (Shape{6 * d, d}));
  EXPECT_EQ(shapes.at(StrCat("blocks.", last, ".modulation")), (Shape{1, 6, d}));
  EXPECT_EQ(shapes.at(StrCat("blocks.", last, ".cross_attn.norm_k.weight")), (Shape{d}));
  EXPECT_EQ(shapes.at(StrCat("blocks.", last, ".ffn.0.weight")), (Shape{m.ffn, d}));
  EXPECT_EQ(shapes.at(StrCat("blocks.", last, ".ffn.2.weight")), (Shape{d, m.ffn}));
  EXPECT_EQ(shapes.at("head.modulation"), (Shape{1, 2, d}));
  EXPECT_EQ(shapes.at("head.head.weight"), (Shape{4 * m.channels, d}));
  EXPECT_EQ(shapes.contains(StrCat("blocks.", last, ".cross_attn.k_img.weight")), c.takes_clip());
  if (!c.takes_clip()) return;
  EXPECT_EQ(shapes.at(StrCat("blocks.", last, ".cross_attn.v_img.weight")), (Shape{d, d}));
  EXPECT_EQ(shapes.at(StrCat("blocks.", last, ".cross_attn.norm_k_img.weight")), (Shape{d}));
  EXPECT_EQ(shapes.at("img_emb.proj.1.weight"), (Shape{1280, 1280}));
  EXPECT_EQ(shapes.at("img_emb.proj.3.weight"), (Shape{d, 1280}));
  EXPECT_EQ(shapes.at("img_emb.proj.4.bias"), (Shape{d}));
}

// Every tensor there is has a name in diffusers, and the way back leads to it.
TEST(FullSizeImageToVideo, TranslatesEveryName) {
  WanConfig c;
  c.in_dim = 36;
  c.image_dim = 1280;
  std::set<std::string> names;
  const WanTransformer model(c, at::kMeta);
  for (const auto& [name, p] : model.parameters()) {
    EXPECT_TRUE(names.insert(DiffusersName(name)).second) << name;
    EXPECT_EQ(OriginalName(DiffusersName(name)), name);
  }
  EXPECT_TRUE(names.contains("condition_embedder.image_embedder.ff.net.0.proj.weight"));
  EXPECT_TRUE(names.contains("blocks.0.attn2.norm_added_k.weight"));
}

INSTANTIATE_TEST_SUITE_P(Models, FullSize,
                         testing::Values(Published{"T2V_1_3B", 1536, 12, 30, 8960, 16, 825, 1'418'996'800},
                                         Published{"T2V_14B", 5120, 40, 40, 13824, 16, 1095, 14'288'491'584},
                                         Published{"TI2V_5B", 3072, 24, 30, 14336, 48, 825, 4'999'787'712},
                                         Published{"I2V_14B", 5120, 40, 40, 13824, 16, 1303, 16'394'878'784, 36, 1280},
                                         Published{"I2V_A14B", 5120, 40, 40, 13824, 16, 1095, 14'288'901'184, 36}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace sgmd
