// sgmd-vae as a person uses it: latents to a video file and back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "pipeline/evaluation/video_reader.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_vae.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Ended {
  int status;
  std::string output;  // stdout and stderr
};

Ended RunShell(const std::string& command) {
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  std::string output;
  char bytes[4096];
  for (std::size_t got; (got = std::fread(bytes, 1, sizeof bytes, pipe)) > 0;) output.append(bytes, got);
  return {::pclose(pipe), output};
}

class VaeProgram : public testing::Test {
 protected:
  VaeProgram() { SaveTinyVae(TinyVae(false), folder_ / "pipeline/vae"); }
  Ended RunVae(const std::string& arguments) const {
    return RunShell(StrCat("cd ", folder_.path().string(), " && " SGMD_BIN_DIR "/sgmd-vae --threads 1 ", arguments));
  }
  void SaveLatents(at::IntArrayRef shape) const {
    SaveTensors(folder_ / "l.safetensors", {{"latents", Noise(shape, 1)}});
  }
  TempFolder folder_;
};

TEST_F(VaeProgram, DecodesToAVideoAndEncodesItAgain) {
  SaveLatents({1, 16, 3, 4, 6});
  const Ended decode = RunVae("decode --vae pipeline --latents l.safetensors --out clip.mp4 --fps 24");
  ASSERT_EQ(decode.status, 0) << decode.output;
  EXPECT_THAT(decode.output, AllOf(HasSubstr("video clip.mp4 9 frames"), HasSubstr("decoding"), HasSubstr("3/3")));
  const Ended probe =
      RunShell(StrCat("ffprobe -v error -count_frames -select_streams v:0 -of csv=p=0 -show_entries "
                      "stream=width,height,r_frame_rate,nb_read_frames ",
                      (folder_ / "clip.mp4").string()));
  EXPECT_EQ(probe.output, "48,32,24/1,9\n");

  const Ended encode =
      RunVae("encode --vae pipeline/vae --video clip.mp4 --size 16 24 --frames 7 --out back.safetensors");
  ASSERT_EQ(encode.status, 0) << encode.output;
  EXPECT_THAT(encode.output,
              AllOf(HasSubstr("[1, 16, 2, 3, 2]"), HasSubstr("7 frames: the first 5 (1 + 4 k) are encoded")));
  EXPECT_EQ(CopyToTensor(SafetensorsFile::Open(folder_ / "back.safetensors").At("latents")).sizes(),
            at::IntArrayRef({1, 16, 2, 3, 2}));
}

TEST_F(VaeProgram, WritesAFileAVideo) {
  SaveLatents({2, 16, 1, 2, 2});
  const Ended decode = RunVae("decode --vae pipeline --latents l.safetensors --out still.png");
  ASSERT_EQ(decode.status, 0) << decode.output;
  EXPECT_TRUE(std::filesystem::exists(folder_ / "still-0.png") && std::filesystem::exists(folder_ / "still-1.png"));
}

// What diffusers gives in tiles the parity tests have.
TEST_F(VaeProgram, TakesLargeFramesInTiles) {
  SaveLatents({1, 16, 2, 4, 6});
  const Ended decode = RunVae("decode --vae pipeline --latents l.safetensors --out clip.mp4 --vae-tile 24");
  ASSERT_EQ(decode.status, 0) << decode.output;
  EXPECT_THAT(decode.output, AllOf(HasSubstr("video clip.mp4 5 frames"), HasSubstr("12/12")));  // 2 x 3 tiles, 2 chunks
  const Ended encode = RunVae("encode --vae pipeline --video clip.mp4 --out back.safetensors --vae-tile 24");
  ASSERT_EQ(encode.status, 0) << encode.output;
  WanVae vae = TinyVae(false);
  const at::Tensor pixels = ToPixels(ReadVideo(folder_ / "clip.mp4")), whole = vae.Encode(pixels);
  vae.TileSpace({.tile = 24, .stride = 16});
  const at::Tensor back = CopyToTensor(SafetensorsFile::Open(folder_ / "back.safetensors").At("latents"));
  EXPECT_TRUE(at::allclose(back, vae.Encode(pixels), 1e-4, 1e-5));
  EXPECT_FALSE(at::allclose(back, whole, 1e-4, 1e-5));
}

TEST_F(VaeProgram, SaysWhichTilesThereAre) {
  SaveLatents({1, 16, 1, 2, 2});
  const Ended refused = RunVae("decode --vae pipeline --latents l.safetensors --out clip.png --vae-tile 20");
  EXPECT_NE(refused.status, 0);
  EXPECT_THAT(refused.output, AllOf(HasSubstr("--vae-tile"), HasSubstr("multiples of 8"), HasSubstr("give 16 or 24")));
  EXPECT_THAT(RunVae("--help").output, HasSubstr("--vae-tile"));
}

TEST_F(VaeProgram, SaysWhatIsWrongAndLeavesNoHalfFile) {
  SaveLatents({1, 48, 2, 2, 2});
  const Ended wrong = RunVae("decode --vae pipeline --latents l.safetensors --out clip.mp4");
  EXPECT_NE(wrong.status, 0);
  EXPECT_THAT(wrong.output, AllOf(HasSubstr("sgmd-vae: error:"), HasSubstr("wrong VAE"), HasSubstr("Wan2.2 VAE")));
  SaveLatents({1, 16, 2, 2, 2});
  EXPECT_THAT(RunVae("decode --vae pipeline --latents l.safetensors --out clip.png").output,
              HasSubstr("a PNG holds one frame"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "clip.mp4") || std::filesystem::exists(folder_ / ".tmp-clip.png"));
  EXPECT_THAT(RunVae("--help").output, AllOf(HasSubstr("encode"), HasSubstr("decode"), HasSubstr("48\nchannels")));
}

}  // namespace
}  // namespace sgmd
