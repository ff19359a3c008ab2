// Pictures as people have them, and made as large as models want them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>

namespace sgmd {

/// The picture in a file that ffmpeg reads (PNG, JPEG, ...), uint8 RGB [H, W, 3]; of several frames the first. PNG
/// comes as it is, without its transparency; JPEG is decoded by ffmpeg, up to a few levels other than by libjpeg.
/// Throws Error when the file does not exist or holds no picture.
at::Tensor ReadPicture(const std::filesystem::path& path);

/// How a picture is resized: a filter of the source's pixels, which is as many times wider as the picture gets smaller.
enum class Resampling {
  kBicubic,  // Keys' with a = -1/2, over 2 pixels to each side
  kLanczos,  // sinc(x) sinc(x / 3), over 3
};

/// `picture` uint8 [H, W, 3] at another size, whatever that does to its proportions: columns first, rounded to 8 bits,
/// then rows. Bit for bit what Pillow's Image.resize gives up to version 12, which the reference pipelines call;
/// version 13 begins with the rows where that is cheaper.
at::Tensor ResizePicture(const at::Tensor& picture, std::int64_t height, std::int64_t width, Resampling resampling);

/// The middle [side, side, 3] of a picture that is resized, its proportions kept, so that its shorter side is `side`.
at::Tensor MiddleSquare(const at::Tensor& picture, std::int64_t side, Resampling resampling);

}  // namespace sgmd
