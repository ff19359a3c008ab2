// From prompts to a prompt bank, in parts that survive whatever ends the work.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "nodes/encoder/picture_list.h"
#include "pipeline/image/first_frame_encoder.h"
#include "pipeline/text/tokenizer_client.h"
#include "pipeline/text/umt5_encoder.h"

namespace sgmd {

struct BankJobOptions {
  std::filesystem::path out;          // the bank
  std::vector<std::string> prompts;   // drawable ones, no text twice, or with pictures no pair of both twice
  std::vector<BankPicture> pictures;  // of each prompt its first frame; empty for text-to-video
  std::string negative;
  at::ScalarType dtype = at::kBFloat16;  // of what is in the file: bfloat16 or float32
  std::int64_t max_length = 512;         // tokens of a prompt at most, end-of-text included
  /// Prompts encoded together: each layer is read once for them; a kill loses at most so many.
  std::int64_t group = 16;
  bool force = false;  // replace a bank of other prompts
};

/// Throws Error where the bank at `options.out`, if there is one, has prompts that the new one would not have with the
/// same pictures, or another negative prompt: runs may read it. More prompts than before are fine.
void RequireNothingLost(const BankJobOptions& options);

/// Cleans, tokenises and encodes every prompt, encodes every picture, and writes the bank. Finished groups are kept in
/// `<out>.parts/`, a safetensors file each, until the bank is there; the next run goes on from them, and from an older
/// bank at `out`, if encoder, tokenizer and settings are the same (else Error). The rows of a prompt do not depend on
/// its group, so that an interrupted job ends in the same bytes as a calm one. Throws Error when another process works
/// on the same bank, and as RequireNothingLost unless `force`. `first_frames` is needed with pictures.
void MakeBank(const BankJobOptions& options, const Umt5Encoder& encoder, TokenizerClient& tokenizer,
              const FirstFrameEncoder* first_frames = nullptr);

}  // namespace sgmd
