// What a prompt bank has: prompts, their first frames for image-to-video, and what made them; without reading their
// values, so that programs without LibTorch can ask too.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "common/digest/digest.h"
#include "common/storage/safetensors.h"

namespace sgmd {

/// Metadata key of the encoder's identity: a name, and for trained encoders a space and the hexadecimal digest of its
/// weights.
inline constexpr char kPromptEncoderKey[] = "sgmd.encoder";

/// What made the conditions of first frames: digests of VAE and CLIP encoder, and the size of the videos.
inline constexpr char kImageEncoderKey[] = "sgmd.image_encoder";

/// What a bank for image-to-video has of each entry, and a model for it asks for.
struct FirstFrames {
  std::vector<std::int64_t> latent;  // channels, frames, height, width of the videos; empty: there are no first frames
  std::int64_t clip_dim = 0;         // width of the CLIP tokens; 0: there are none

  bool operator==(const FirstFrames&) const = default;
};

/// File: one float32 or bfloat16 tensor [rows, text_dim] per prompt, named by the hexadecimal DigestText of the prompt,
/// rows not padded (words: 0 rows for the empty prompt; umT5: 1). Metadata: "sgmd.encoder", "sgmd.prompts" (JSON array
/// of texts, the drawable ones in order), "sgmd.negative" (text of the unconditional prompt).
///
/// An entry of a bank for image-to-video is a text and a first frame; several may have one text, or one frame. Further
/// metadata: "sgmd.images" (JSON array, of each entry the name of its image: the hexadecimal digest of the picture's
/// file) and "sgmd.image_encoder". Further tensors, float32 or bfloat16: "image.<name>" [C, F, H, W], the normalised
/// latents of the picture and grey frames behind it, or for TI2V-5B of the picture alone, F = 1; for models that take
/// them "clip.<name>" [257, 1280]. The digest of
/// an entry is EntryDigest, and without images DigestText.
class BankIndex {
 public:
  /// Throws Error on a missing file, missing metadata, a prompt without embedding or embeddings of several widths; and
  /// on an entry without its image among others, or images of several shapes.
  static BankIndex Open(const std::filesystem::path& path);

  /// The drawable prompts in file order; the negative prompt is not among them.
  const std::vector<Digest>& prompts() const { return prompts_; }
  const std::vector<std::string>& texts() const { return texts_; }
  /// Names of their images; empty of a bank for text-to-video.
  const std::vector<std::string>& images() const { return images_; }
  const FirstFrames& first_frames() const { return first_frames_; }
  const Digest& negative() const { return negative_; }
  /// What made the rows, such as "umt5 0f3c..." (kPromptEncoderKey).
  const std::string& encoder() const { return encoder_; }
  std::int64_t text_dim() const { return text_dim_; }

  /// Throws Error unless a model of this text_dim and text_len can read every prompt: to be asked before a run starts.
  void RequireFits(std::int64_t text_dim, std::int64_t text_len) const;
  /// Throws Error unless the bank has first frames exactly where they are `wanted`, and such ones.
  void RequireFirstFrames(const FirstFrames& wanted) const;

 protected:
  const SafetensorsFile& file() const { return file_; }
  /// The rows of a prompt, or of an entry's text. Throws Error on an unknown digest.
  const TensorView& Rows(const Digest& prompt) const;
  /// Of an entry. Throws Error where it has none, as the negative prompt.
  const TensorView& ImageOf(const Digest& entry) const;
  const TensorView& ClipOf(const Digest& entry) const;

 private:
  struct Entry {
    Digest text;
    std::string image;
  };
  explicit BankIndex(SafetensorsFile file) : file_(std::move(file)) {}
  void ReadTexts();
  void ReadImages();
  const std::string& ImageNameOf(const Digest& entry) const;

  SafetensorsFile file_;
  std::vector<Digest> prompts_;
  std::vector<std::string> texts_, images_;
  std::map<Digest, Entry> entries_;  // of a bank for image-to-video
  FirstFrames first_frames_;
  Digest negative_;
  std::string encoder_;
  std::int64_t text_dim_ = 0, longest_ = 0;  // longest: rows
};

/// Of an entry of a bank for image-to-video: it covers the text, the picture, and what made its condition, which decide
/// together what a model is told. `image`: the name of its image.
Digest EntryDigest(const std::string& text, const std::string& image, const std::string& image_encoder);

/// Names of the tensors of the image called `name`.
std::string ImageTensor(const std::string& name);
std::string ClipTensor(const std::string& name);

/// Writes a bank of `tensors` (the rows of each text as above, the negative's among them, and what images need) with
/// the encoder's identity and whatever else `metadata` tells of their making. `images`: of each prompt the name of its
/// image; empty for text-to-video. Throws Error when kPromptEncoderKey is missing there, or with images
/// kImageEncoderKey.
void WritePromptBank(const std::filesystem::path& path, std::span<const TensorView> tensors,
                     const std::vector<std::string>& prompts, const std::string& negative, Metadata metadata,
                     const std::vector<std::string>& images = {});

}  // namespace sgmd
