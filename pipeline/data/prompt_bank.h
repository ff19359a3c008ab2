// Prompts and their embeddings, and for image-to-video their first frames. Prompts travel as digests; what they stand
// for lives in one safetensors file that every node maps.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "pipeline/data/bank_index.h"
#include "pipeline/flow/velocity_model.h"

namespace sgmd {

/// The bank that an index is of, with its values.
class PromptBank : public BankIndex {
 public:
  /// Throws Error as BankIndex does.
  static PromptBank Open(const std::filesystem::path& path) { return PromptBank(BankIndex::Open(path)); }

  /// [B, text_len, text_dim] float32 CPU: rows, then zeros (all text_len rows are attended: wan_facts §1.3, 4).
  /// Throws Error on an unknown digest, and on a prompt of more than text_len rows.
  at::Tensor Gather(const std::vector<Digest>& prompts, std::int64_t text_len) const;
  /// What a model is conditioned on: Gather, and of a bank for image-to-video the first frames' latents and CLIP
  /// tokens, float32 CPU. Throws Error as Gather does, and where an entry has no image, as the negative prompt.
  Conditioning ConditionsOf(const std::vector<Digest>& prompts, std::int64_t text_len) const;
  /// The negative prompt, `batch` times.
  at::Tensor GatherNegative(std::int64_t batch, std::int64_t text_len) const;

 private:
  explicit PromptBank(BankIndex index) : BankIndex(std::move(index)) {}
};

/// Writes a bank of `prompts` and the negative prompt with the embedded word encoder: one row per word, a unit-variance
/// normal vector that is a function of the word alone. For the embedded model, whose prompts differ by words and not by
/// their order.
void WriteWordPromptBank(const std::filesystem::path& path, const std::vector<std::string>& prompts,
                         const std::string& negative, std::int64_t text_dim);

/// Digests as uint8 [B, 16] (hi, lo, little-endian), the form that messages carry, and back.
at::Tensor PromptsToTensor(const std::vector<Digest>& prompts);
std::vector<Digest> PromptsFromTensor(const at::Tensor& tensor);

}  // namespace sgmd
