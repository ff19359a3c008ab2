// Prompts and their embeddings. Prompts travel as digests; the embeddings live in one safetensors file that every node
// maps.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "common/digest/digest.h"
#include "common/storage/safetensors.h"

namespace sgmd {

/// Metadata key of the encoder's identity: a name, and for trained encoders a space and the hexadecimal digest of its
/// weights.
inline constexpr char kPromptEncoderKey[] = "sgmd.encoder";

/// File: one float32 or bfloat16 tensor [rows, text_dim] per prompt, named by the hexadecimal DigestText of the prompt,
/// rows not padded (words: 0 rows for the empty prompt; umT5: 1). Metadata: "sgmd.encoder", "sgmd.prompts" (JSON array
/// of texts, the drawable ones in order), "sgmd.negative" (text of the unconditional prompt).
class PromptBank {
 public:
  /// Throws Error on a missing file, missing metadata, a prompt without embedding or embeddings of several widths.
  static PromptBank Open(const std::filesystem::path& path);

  /// The drawable prompts in file order; the negative prompt is not among them.
  const std::vector<Digest>& prompts() const { return prompts_; }
  const std::vector<std::string>& texts() const { return texts_; }
  const Digest& negative() const { return negative_; }
  /// What made the rows, such as "umt5 0f3c..." (kPromptEncoderKey).
  const std::string& encoder() const { return encoder_; }
  std::int64_t text_dim() const { return text_dim_; }

  /// Throws Error unless a model of this text_dim and text_len can read every prompt: to be asked before a run starts.
  void RequireFits(std::int64_t text_dim, std::int64_t text_len) const;

  /// [B, text_len, text_dim] float32 CPU: rows, then zeros (all text_len rows are attended: wan_facts §1.3, 4).
  /// Throws Error on an unknown digest, and on a prompt of more than text_len rows.
  at::Tensor Gather(const std::vector<Digest>& prompts, std::int64_t text_len) const;
  /// The negative prompt, `batch` times.
  at::Tensor GatherNegative(std::int64_t batch, std::int64_t text_len) const;

 private:
  explicit PromptBank(SafetensorsFile file) : file_(std::move(file)) {}
  SafetensorsFile file_;
  std::vector<Digest> prompts_;
  std::vector<std::string> texts_;
  Digest negative_;
  std::string encoder_;
  std::int64_t text_dim_ = 0, longest_ = 0;  // longest: rows
};

/// Writes a bank of `rows` (one tensor a prompt as above, the negative's among them) with the encoder's identity and
/// whatever else `metadata` tells of their making. Throws Error when kPromptEncoderKey is missing there.
void WritePromptBank(const std::filesystem::path& path, std::span<const TensorView> rows,
                     const std::vector<std::string>& prompts, const std::string& negative, Metadata metadata);

/// Writes a bank of `prompts` and the negative prompt with the embedded word encoder: one row per word, a unit-variance
/// normal vector that is a function of the word alone. For the embedded model, whose prompts differ by words and not by
/// their order.
void WriteWordPromptBank(const std::filesystem::path& path, const std::vector<std::string>& prompts,
                         const std::string& negative, std::int64_t text_dim);

/// Digests as uint8 [B, 16] (hi, lo, little-endian), the form that messages carry, and back.
at::Tensor PromptsToTensor(const std::vector<Digest>& prompts);
std::vector<Digest> PromptsFromTensor(const at::Tensor& tensor);

}  // namespace sgmd
