// Sizes of a Wan video transformer (wan_facts §1.1), read from config.json in its original or its Diffusers form.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

namespace sgmd {

/// Keys of the original `config.json`; those that original files leave out have the family's values as defaults.
struct WanConfig {
  /// "t2v", "i2v", or "ti2v" (TI2V-5B). Shapes nothing.
  std::string model_type = "t2v";
  std::int64_t in_dim = 16;     // channels in: of the latents, and with image-to-video of the first frame's condition
  std::int64_t out_dim = 16;    // channels of the latents, and out
  std::int64_t dim = 1536;      // D, divisible by num_heads; head size even
  std::int64_t ffn_dim = 8960;  // F
  std::int64_t freq_dim = 256;  // sinusoid of the timestep, even
  std::int64_t text_dim = 4096;
  std::int64_t text_len = 512;  // every prompt is zero-padded to this many rows, and all rows are attended
  std::int64_t num_heads = 12;
  std::int64_t num_layers = 30;
  std::array<std::int64_t, 3> patch_size{1, 2, 2};  // frames, height, width
  double eps = 1e-6;
  std::int64_t image_dim = 0;  // width of CLIP tokens (Wan2.1-I2V: 1280); 0: the model takes none

  /// Of the mask that stands before the latents of a first frame: the frames of pixels behind a latent frame.
  static constexpr std::int64_t kMaskChannels = 4;
  /// CLIP tokens of a picture of 224 pixels in patches of 14, and the class token.
  static constexpr std::int64_t kClipTokens = 257;

  bool operator==(const WanConfig&) const = default;
  std::int64_t head_dim() const { return dim / num_heads; }
  std::int64_t patch_volume() const { return patch_size[0] * patch_size[1] * patch_size[2]; }
  bool takes_image() const { return in_dim > out_dim; }
  bool takes_clip() const { return image_dim > 0; }
  /// Whether a first frame may be given in the place of the latents' own: TI2V-5B.
  bool may_hold_image() const { return model_type == "ti2v"; }

  /// Reads both forms (wan_facts §6); the Diffusers form has no text_len, 512 is taken unless the key is there all the
  /// same. Original files of image-to-video have no image_dim: it is 1280 (Wan2.1), and 0 of one of two experts
  /// (Wan2.2-A14B), which its folder's name tells; the key is read where it is there all the same. Throws Error naming
  /// file and key on a missing or impossible size, and on other models: first and last frame (flf2v,
  /// pos_embed_seq_len), vace, other classes, and channels in that are neither those out nor those of a first frame's
  /// condition beside them.
  static WanConfig FromFile(const std::filesystem::path& path);
  /// The original form of config.json; of image-to-video with image_dim.
  std::string ToJson() const;
  /// The form of Diffusers' WanTransformer3DModel. Has text_len only where it is not 512 (Diffusers ignores it, with a
  /// warning).
  std::string ToDiffusersJson() const;
  /// Throws Error unless sizes are positive and divide as they must.
  void Validate(const std::string& where) const;
};

}  // namespace sgmd
