// A CLIP vision encoder that transformers saved, and pictures that Pillow resized.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <iostream>

#include "pipeline/image/clip_vision.h"
#include "pipeline/image/picture.h"
#include "pipeline/tensors/tensor_bytes.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = SGMD_PARITY_DIR;

at::Tensor Reference(const std::string& name) {
  return CopyToTensor(SafetensorsFile::Open(kFolder / "reference.safetensors").At(name));
}

class PictureParity : public testing::TestWithParam<const char*> {
 protected:
  at::Tensor Picture() const { return ReadPicture(kFolder / (std::string(GetParam()) + ".png")); }
  at::Tensor Of(const char* what) const { return Reference(GetParam() + std::string(".") + what); }
};

TEST_P(PictureParity, ResizesAsPillowDoes) {
  EXPECT_TRUE(at::equal(ResizePicture(Picture(), 32, 48, Resampling::kLanczos), Of("lanczos")));
  EXPECT_TRUE(at::equal(ResizePicture(Picture(), 45, 31, Resampling::kBicubic), Of("bicubic")));
  EXPECT_TRUE(at::equal(ResizePicture(Picture(), 240, 320, Resampling::kLanczos), Of("enlarged")));
}

TEST_P(PictureParity, GivesTheHiddenStatesOfTransformers) {
  const ClipVision clip = ClipVision::Load(kFolder, at::kCPU);
  const at::Tensor pixels = ClipPixels(MiddleSquare(Picture(), 28, Resampling::kBicubic)),
                   hidden = clip.Encode(Picture());
  ASSERT_EQ(pixels.sizes(), Of("pixels").sizes());
  ASSERT_EQ(hidden.sizes(), Of("hidden").sizes());
  const double of_pixels = (pixels - Of("pixels")).abs().max().item<double>(),
               of_hidden = ((hidden - Of("hidden")).abs().max() / Of("hidden").abs().max()).item<double>();
  std::cout << GetParam() << ": pixels " << of_pixels << ", hidden states " << of_hidden << "\n";
  EXPECT_LE(of_pixels, 1e-5);
  EXPECT_LE(of_hidden, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Of, PictureParity, testing::Values("wide", "tall", "square", "large", "tiny"),
                         [](const auto& info) { return std::string(info.param); });

TEST(ClipVisionParity, HasAnIdentity) {
  const ClipVision clip = ClipVision::Load(kFolder, at::kCPU);
  EXPECT_EQ(clip.config().tokens(), 5);
  EXPECT_EQ(clip.digest(), ClipVision::Load(kFolder / "image_encoder", at::kCPU).digest());
}

}  // namespace
}  // namespace sgmd
