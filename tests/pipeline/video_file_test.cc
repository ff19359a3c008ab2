#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "pipeline/evaluation/video_file.h"
#include "pipeline/evaluation/video_reader.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Frame t is one colour: red 12 t.
at::Tensor Frames(std::int64_t count, std::int64_t height, std::int64_t width) {
  at::Tensor frames = at::full({count, height, width, 3}, 40, at::kByte);
  for (std::int64_t t = 0; t < count; ++t) frames[t].select(-1, 0).fill_(12 * t);
  return frames;
}

std::string AppendError(const std::filesystem::path& path, const at::Tensor& frames) {
  try {
    VideoWriter writer(path, 8);
    for (int i = 0; i < 50; ++i) writer.Append(frames);
    writer.Finish();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

double MeanDifference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a.to(at::kFloat) - b.to(at::kFloat)).abs().mean().item<double>();
}

TEST(VideoWriter, WritesWhatComesBitByBit) {
  TempFolder folder;
  const at::Tensor frames = Frames(9, 32, 48);
  for (const char* name : {"clip.mp4", "it's a: clip.gif"}) {
    VideoWriter writer(folder / name, 16);
    writer.Append(frames.slice(0, 0, 1));
    writer.Append(frames.slice(0, 1, 5));
    writer.Append(frames.slice(0, 5, 9));
    EXPECT_FALSE(std::filesystem::exists(folder / name));
    writer.Finish();
    EXPECT_EQ(writer.frames(), 9);
    EXPECT_LT(MeanDifference(ReadVideo(folder / name), frames), 4) << name;
    EXPECT_EQ(CountFrames(folder / name), 9);
  }
}

TEST(VideoWriter, LeavesNothingWhenItIsNotFinished) {
  TempFolder folder;
  {
    VideoWriter writer(folder / "clip.mp4", 16);
    writer.Append(Frames(3, 32, 32));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(VideoWriter, GivesFfmpegsWordsAndLeavesNothing) {
  TempFolder folder;
  // Far more than what fits into the pipe: ffmpeg is gone while frames are still being written.
  EXPECT_THAT(AppendError(folder / "clip.mp4", Frames(2, 301, 301)),
              AllOf(HasSubstr("clip.mp4"), HasSubstr("not divisible by 2")));
  EXPECT_THAT(AppendError(folder / "clip.unheard-of", Frames(1, 2, 2)), HasSubstr("saying:"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(VideoWriter, RefusesOtherTensorsAndPlaces) {
  TempFolder folder;
  EXPECT_THAT(AppendError(folder / "a.mp4", at::zeros({1, 4, 4, 3})), HasSubstr("must be uint8 [F, H, W, 3]"));
  EXPECT_THAT(AppendError(folder / "a.png", Frames(1, 4, 4)), HasSubstr("a PNG holds one frame"));
  EXPECT_THAT(AppendError(folder / "absent" / "a.mp4", Frames(1, 4, 4)), HasSubstr("no such folder"));
  EXPECT_THROW(VideoWriter(folder / "a.mp4", 0), Error);
  VideoWriter writer(folder / "a.mp4", 8);
  EXPECT_THROW(writer.Finish(), Error);
  writer.Append(Frames(1, 4, 4));
  EXPECT_THROW(writer.Append(Frames(1, 4, 6)), Error);
}

TEST(VideoWriter, WithoutFfmpegSaysSo) {
  TempFolder folder;
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", folder.path().c_str(), 1);
  const std::string error = AppendError(folder / "a.mp4", Frames(1, 4, 4));
  ::setenv("PATH", path.c_str(), 1);
  EXPECT_THAT(error, AllOf(HasSubstr("cannot start ffmpeg"), HasSubstr("install ffmpeg")));
}

TEST(VideoReader, ReadsAFolderOfPicturesExactly) {
  TempFolder folder;
  const at::Tensor frames = Frames(4, 10, 6);
  for (int t = 0; t < 4; ++t) WritePng(folder / StrCat("frame", t, ".png"), frames[t]);
  VideoReader reader(folder.path());
  EXPECT_TRUE(at::equal(reader.Next(1), frames.slice(0, 0, 1)));
  EXPECT_TRUE(at::equal(reader.Next(100), frames.slice(0, 1, 4)));
  EXPECT_EQ(reader.Next(1).size(0), 0);
  const at::Tensor pixels = ToPixels(frames);
  EXPECT_EQ(pixels.sizes(), at::IntArrayRef({1, 3, 4, 10, 6}));
  EXPECT_TRUE(at::equal(ToRgbFrames(pixels), frames));
}

TEST(VideoReader, ScalesCropsAndResamples) {
  TempFolder folder;
  WriteVideo(folder / "clip.mp4", Frames(16, 32, 64), 16);
  EXPECT_EQ(ReadVideo(folder / "clip.mp4", {16, 16, 8}).sizes(), at::IntArrayRef({8, 16, 16, 3}));
  EXPECT_EQ(CountFrames(folder / "clip.mp4", {0, 0, 8}), 8);
  VideoReader reader(folder / "clip.mp4");  // is ended in the middle
  EXPECT_EQ(reader.Next(2).size(0), 2);
}

TEST(VideoReader, RefusesWhatIsNoVideo) {
  TempFolder folder;
  WriteFileAtomically(folder / "no.mp4", "not a video");
  EXPECT_THROW(ReadVideo(folder / "no.mp4"), Error);
  EXPECT_THROW(ReadVideo(folder / "absent.mp4"), Error);
  EXPECT_THROW(ReadVideo(folder.path()), Error);
}

}  // namespace
}  // namespace sgmd
