#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/vae/vae_names.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_vae.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class VaeForms : public testing::TestWithParam<bool> {
 protected:
  VaeForms() { at::set_num_threads(1); }
  const WanVae vae_ = TinyVae(GetParam());
  const std::int64_t pixels_ = vae_.config().spatial_factor();
};
INSTANTIATE_TEST_SUITE_P(, VaeForms, testing::Values(false, true),
                         [](const auto& p) { return p.param ? "Wan22" : "Wan21"; });

constexpr double kRounding = 5e-5;  // of the largest value: kernels add up in another order for other shapes

// max |a - b| / max |b|
double Difference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

TEST_P(VaeForms, DecodingInChunksIsDecodingTheWhole) {
  const at::Tensor latents = Noise({1, vae_.channels(), 6, 3, 2}, 3);
  TimeCache whole_cache;
  const at::Tensor whole = vae_.DecodeChunk(latents, whole_cache);
  EXPECT_EQ(whole.sizes(), at::IntArrayRef({1, 3, 21, 3 * pixels_, 2 * pixels_}));
  EXPECT_LT(Difference(vae_.Decode(latents), whole), kRounding);
  TimeCache cache;
  std::vector<at::Tensor> parts;
  for (const auto& [begin, count] : {std::pair{0, 2}, {2, 1}, {3, 3}}) {
    parts.push_back(vae_.DecodeChunk(latents.narrow(2, begin, count), cache));
  }
  EXPECT_LT(Difference(at::cat(parts, 2), whole), kRounding);
}

TEST_P(VaeForms, EncodingInChunksIsEncodingTheWhole) {
  const at::Tensor pixels = Uniform({1, 3, 21, pixels_, 2 * pixels_}, 4) * 2 - 1;
  TimeCache whole_cache;
  const at::Tensor whole = vae_.EncodeChunk(pixels, whole_cache);
  EXPECT_EQ(whole.sizes(), at::IntArrayRef({1, vae_.channels(), 6, 1, 2}));
  EXPECT_LT(Difference(vae_.Encode(pixels), whole), kRounding);
  TimeCache cache;
  std::vector<at::Tensor> parts;
  for (const auto& [begin, count] : {std::pair{0, 5}, {5, 4}, {9, 12}}) {
    parts.push_back(vae_.EncodeChunk(pixels.narrow(2, begin, count), cache));
  }
  EXPECT_LT(Difference(at::cat(parts, 2), whole), kRounding);
}

// A later frame must not reach an earlier one, and an earlier one must reach later ones across the chunks.
TEST_P(VaeForms, TimeGoesOneWay) {
  const at::Tensor latents = Noise({1, vae_.channels(), 4, 2, 2}, 5);
  at::Tensor changed = latents.clone();
  changed.select(2, 2).add_(1);
  const at::Tensor a = vae_.Decode(latents), b = vae_.Decode(changed);
  EXPECT_TRUE(at::equal(a.narrow(2, 0, 5), b.narrow(2, 0, 5)));
  for (std::int64_t t = 5; t < 13; ++t) EXPECT_FALSE(at::equal(a.select(2, t), b.select(2, t))) << t;
}

TEST_P(VaeForms, MemoryBetweenChunksDoesNotGrow) {
  TimeCache cache;
  std::vector<std::size_t> bytes;
  for (int k = 0; k < 4; ++k) {
    vae_.DecodeChunk(Noise({1, vae_.channels(), 1, 2, 2}, 6), cache);
    bytes.push_back(0);
    for (const at::Tensor& frames : cache.frames) {
      if (!frames.defined()) continue;
      EXPECT_LE(frames.size(2), 2);
      bytes.back() += frames.storage().nbytes();
    }
  }
  EXPECT_EQ(bytes[3], bytes[1]);  // the first chunk has no history in time upsampling yet
}

TEST_P(VaeForms, VideosOfABatchAreIndependentAndProgressCountsChunks) {
  const at::Tensor latents = Noise({2, vae_.channels(), 3, 2, 1}, 7);
  std::vector<std::int64_t> done;
  const at::Tensor both = vae_.Decode(latents, [&](std::int64_t k, std::int64_t total) {
    EXPECT_EQ(total, 6);
    done.push_back(k);
  });
  EXPECT_EQ(done, (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_TRUE(at::equal(both.narrow(0, 1, 1), vae_.Decode(latents.narrow(0, 1, 1))));
  EXPECT_LE(both.abs().max().item<double>(), 1.0);
}

TEST_P(VaeForms, LatentsAreNormalised) {
  VaeConfig plain = vae_.config();
  plain.latents_mean.assign(plain.latents_mean.size(), 0);
  plain.latents_std.assign(plain.latents_std.size(), 1);
  const WanVae raw(plain);
  for (std::size_t i = 0; i < raw.parameters().size(); ++i)
    raw.parameters()[i].second.copy_(vae_.parameters()[i].second);
  const at::Tensor pixels = Uniform({1, 3, 1, pixels_, pixels_}, 8) * 2 - 1;
  const at::Tensor mean = at::tensor(vae_.config().latents_mean, at::kFloat).view({-1, 1, 1, 1});
  const at::Tensor std = at::tensor(vae_.config().latents_std, at::kFloat).view({-1, 1, 1, 1});
  EXPECT_LT(Difference(vae_.Encode(pixels) * std + mean, raw.Encode(pixels)), kRounding);
}

TEST_P(VaeForms, EveryNameGoesBothWays) {
  const VaeNames names(vae_.config());
  std::set<std::string> originals;
  for (const auto& [name, tensor] : vae_.parameters()) {
    originals.insert(names.Original(name));
    EXPECT_EQ(names.Diffusers(names.Original(name)), name);
  }
  EXPECT_EQ(originals.size(), vae_.parameters().size());
}

TEST_P(VaeForms, AFileWithOriginalNamesLoadsWithoutConfig) {
  TempFolder folder;
  const VaeNames names(vae_.config());
  NamedTensors renamed;
  for (const auto& [name, tensor] : vae_.parameters()) renamed.emplace_back(names.Original(name), tensor);
  SaveTensors(folder / "some_vae.safetensors", renamed);
  WriteFileAtomically(folder / "config.json",
                      R"({"_class_name": "WanModel", "dim": 1536})");  // of the transformer beside it
  WriteFileAtomically(folder / "diffusion_pytorch_model.safetensors", "the transformer");
  const at::Tensor latents = Noise({1, vae_.channels(), 2, 1, 1}, 9);
  EXPECT_TRUE(at::equal(WanVae::Load(folder / "some_vae.safetensors", at::kCPU).Decode(latents), vae_.Decode(latents)));
  EXPECT_TRUE(at::equal(WanVae::Load(folder.path(), at::kCPU).Decode(latents), vae_.Decode(latents)));
}

TEST(VaeNames, FollowTheTables) {
  const VaeNames plain(VaeConfig::Wan21()), residual(VaeConfig::Wan22());
  EXPECT_EQ(plain.Diffusers("conv1.weight"), "quant_conv.weight");
  EXPECT_EQ(plain.Diffusers("decoder.middle.1.to_qkv.bias"), "decoder.mid_block.attentions.0.to_qkv.bias");
  EXPECT_EQ(plain.Diffusers("encoder.downsamples.5.time_conv.weight"), "encoder.down_blocks.5.time_conv.weight");
  EXPECT_EQ(plain.Diffusers("decoder.upsamples.4.shortcut.weight"),
            "decoder.up_blocks.1.resnets.0.conv_shortcut.weight");
  EXPECT_EQ(plain.Diffusers("decoder.upsamples.7.time_conv.bias"), "decoder.up_blocks.1.upsamplers.0.time_conv.bias");
  EXPECT_EQ(plain.Original("decoder.up_blocks.3.resnets.2.norm2.gamma"), "decoder.upsamples.14.residual.3.gamma");
  EXPECT_EQ(residual.Diffusers("encoder.downsamples.1.downsamples.2.resample.1.weight"),
            "encoder.down_blocks.1.downsampler.resample.1.weight");
  EXPECT_EQ(residual.Diffusers("decoder.upsamples.2.upsamples.3.resample.1.bias"),
            "decoder.up_blocks.2.upsampler.resample.1.bias");
  EXPECT_EQ(residual.Original("decoder.up_blocks.0.resnets.1.conv2.weight"),
            "decoder.upsamples.0.upsamples.1.residual.6.weight");
  EXPECT_THAT(ErrorOf([&] { plain.Diffusers("decoder.upsamples.15.shortcut.weight"); }),
              HasSubstr("\"decoder.upsamples.15.shortcut.weight\""));
  EXPECT_THAT(ErrorOf([&] { residual.Original("weight"); }), HasSubstr("no Diffusers name"));
}

TEST(WanVae, HasTheReleasedModelsTensors) {
  const WanVae plain(VaeConfig::Wan21(), at::kMeta), residual(VaeConfig::Wan22(), at::kMeta);
  EXPECT_EQ(plain.parameters().size(), 194U);
  EXPECT_EQ(plain.ParameterCount(), 126'892'531);
  EXPECT_EQ(residual.parameters().size(), 196U);
  EXPECT_EQ(residual.ParameterCount(), 704'688'668);
}

TEST(WanVae, RefusesWhatDoesNotFit) {
  const WanVae vae = TinyVae(false);
  EXPECT_THAT(ErrorOf([&] {
                vae.Decode(at::zeros({1, 48, 1, 2, 2}));
              }),
              AllOf(HasSubstr("wrong VAE"), HasSubstr("48 channels belong to the Wan2.2 VAE")));
  EXPECT_THAT(ErrorOf([&] {
                TinyVae(true).Decode(at::zeros({1, 16, 1, 2, 2}));
              }),
              HasSubstr("16 channels belong to the Wan2.1 VAE"));
  EXPECT_THAT(ErrorOf([&] {
                vae.Decode(at::zeros({16, 1, 2, 2}));
              }),
              HasSubstr("[videos, channels, frames, height, width]"));
  EXPECT_THAT(ErrorOf([&] { vae.Encode(at::zeros({1, 3, 80, 8, 8})); }), HasSubstr("give 77 or 81"));
  EXPECT_THAT(ErrorOf([&] { vae.Encode(at::zeros({1, 3, 1, 8, 12})); }), HasSubstr("divisible by 8"));
  EXPECT_THAT(ErrorOf([&] { vae.Encode(at::zeros({1, 4, 1, 8, 8})); }), HasSubstr("pixels must be"));
}

TEST(WanVae, SaysWhatIsWrongWithAFile) {
  TempFolder folder;
  const auto load = [&](const std::string& name) { return ErrorOf([&] { WanVae::Load(folder / name, at::kCPU); }); };
  EXPECT_THAT(load("absent"), HasSubstr("no such file or folder"));
  std::filesystem::create_directory(folder / "original");
  WriteFileAtomically(folder / "original" / "Wan2.1_VAE.pth", "pickle");
  EXPECT_THAT(load("original/Wan2.1_VAE.pth"), HasSubstr("vae/ folder of the same model's -Diffusers repository"));
  EXPECT_THAT(load("original"), AllOf(HasSubstr("Wan2.1_VAE.pth"), HasSubstr("-Diffusers repository")));
  SaveTensors(folder / "other.safetensors", {{"x", at::zeros({1})}});
  EXPECT_THAT(load("other.safetensors"), HasSubstr("not a Wan VAE"));
  const WanVae vae = TinyVae(false);
  NamedTensors tensors = vae.parameters();
  tensors[3].first = "stranger";
  tensors[5].second = at::zeros({7});
  SaveTensors(folder / "broken.safetensors", tensors);
  EXPECT_THAT(load("broken.safetensors"),
              AllOf(HasSubstr("missing: " + vae.parameters()[3].first), HasSubstr("unexpected: stranger"),
                    HasSubstr("shape of " + vae.parameters()[5].first)));
}

TEST(VaeConfig, ReadsAndRefuses) {
  TempFolder folder;
  const auto read = [&](const std::string& json) {
    WriteFileAtomically(folder / "config.json", json);
    return VaeConfig::FromFile(folder / "config.json");
  };
  EXPECT_EQ(read("{}").latents_std, VaeConfig::Wan21().latents_std);
  EXPECT_EQ(read(R"({"base_dim": 8, "patch_size": null})").decoder_base_dim, 8);
  EXPECT_EQ(read(R"({"dim_mult": [1, 2], "temperal_downsample": [true]})").temporal_factor(), 2);
  EXPECT_EQ(VaeConfig::Wan22().spatial_factor(), 16);
  EXPECT_THAT(ErrorOf([&] { read(R"({"z_dim": 8})"); }),
              HasSubstr("latents_mean and latents_std must have z_dim entries"));
  EXPECT_THAT(ErrorOf([&] { read(R"({"z_dim": "many"})"); }), HasSubstr("key \"z_dim\" has the wrong type"));
  EXPECT_THAT(ErrorOf([&] { read(R"({"dim_mult": [1, 2]})"); }), HasSubstr("temperal_downsample"));
  EXPECT_THAT(ErrorOf([&] { read("no"); }), HasSubstr("not a JSON object"));
}

}  // namespace
}  // namespace sgmd
