// Ours against diffusers' AutoencoderKLWan: both forms, from every kind of file.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <ATen/Parallel.h>

#include "common/error/error.h"
#include "pipeline/vae/wan_vae.h"

namespace sgmd {
namespace {

const std::filesystem::path kReference = SGMD_PARITY_DIR;
constexpr double kTolerance = 2e-5;  // of the largest value; measured 1e-6 to 3e-6

double MaxRelativeError(const at::Tensor& ours, const at::Tensor& reference) {
  EXPECT_EQ(ours.sizes(), reference.sizes());
  return ((ours - reference).abs().max() / reference.abs().max()).item<double>();
}

// Every case of the file `form` (case<i>.pixels ... of vae_reference.py) through `vae`, in tiles where it says so.
void ExpectLikeReference(WanVae vae, const std::string& form) {
  const SafetensorsFile data = SafetensorsFile::Open(kReference / (form + ".safetensors"));
  for (int i = 0; i < 3; ++i) {
    const auto tensor = [&](const char* what) { return CopyToTensor(data.At(StrCat("case", i, ".", what))); };
    if (form.ends_with("_tiled")) {
      const at::Tensor sizes = tensor("tiling") * vae.config().spatial_factor();
      vae.TileSpace({.tile = sizes[0].item<std::int64_t>(), .stride = sizes[1].item<std::int64_t>()});
    }
    const double encode = MaxRelativeError(vae.Encode(tensor("pixels")), tensor("latents"));
    const double decode = MaxRelativeError(vae.Decode(tensor("noise")), tensor("decoded"));
    std::printf("%s case %d: encode %.2e, decode %.2e\n", form.c_str(), i, encode, decode);
    EXPECT_LT(encode, kTolerance) << form << i;
    EXPECT_LT(decode, kTolerance) << form << i;
  }
}

// Two threads that spin for each other on a busy machine take a hundred times as long over tensors this small.
class VaeParity : public testing::TestWithParam<const char*> {
 protected:
  VaeParity() { at::set_num_threads(1); }
};

TEST_P(VaeParity, OfAPipelineRootAndItsVaeFolder) {
  ExpectLikeReference(WanVae::Load(kReference / GetParam(), at::kCPU), GetParam());
  const WanVae vae = WanVae::Load(kReference / GetParam() / "vae", at::kCPU);
  const at::Tensor latents = at::ones({1, vae.channels(), 2, 2, 2});
  EXPECT_TRUE(at::equal(vae.Decode(latents), WanVae::Load(kReference / GetParam(), at::kCPU).Decode(latents)));
}

TEST_P(VaeParity, InTiles) {
  ExpectLikeReference(WanVae::Load(kReference / GetParam(), at::kCPU), std::string(GetParam()) + "_tiled");
}

INSTANTIATE_TEST_SUITE_P(, VaeParity, testing::Values("plain", "residual", "other"),
                         [](const auto& info) { return std::string(info.param); });

class VaeFileParity : public testing::Test {
 protected:
  VaeFileParity() { at::set_num_threads(1); }
};

TEST_F(VaeFileParity, OfOneFileWithOriginalNamesAndNoConfig) {
  ExpectLikeReference(WanVae::Load(kReference / "plain_original.safetensors", at::kCPU), "plain");
}

// Its mean and std are not those of Wan2.2, which a file alone is taken to have: the weights are compared.
TEST_F(VaeFileParity, ResidualWeightsUnderOriginalNamesAreTheSame) {
  const WanVae original = WanVae::Load(kReference / "residual_original.safetensors", at::kCPU);
  const WanVae diffusers = WanVae::Load(kReference / "residual", at::kCPU);
  ASSERT_EQ(original.parameters().size(), diffusers.parameters().size());
  for (std::size_t i = 0; i < original.parameters().size(); ++i) {
    EXPECT_EQ(original.parameters()[i].first, diffusers.parameters()[i].first);
    EXPECT_TRUE(at::equal(original.parameters()[i].second, diffusers.parameters()[i].second))
        << original.parameters()[i].first;
  }
}

}  // namespace
}  // namespace sgmd
