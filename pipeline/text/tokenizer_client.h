// Token ids from sgmd-tokenizer, a process of its own because SentencePiece and LibTorch do not go together.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest/digest.h"

namespace sgmd {

/// Starts the tokenizer and talks to it in lines of JSON. The child dies with the thread that made this object, whatever ends
/// that, and with this object. Used by one thread.
class TokenizerClient {
 public:
  /// `model`: spiece.model or a folder that has it (see sgmd-tokenizer --help). `program`: default sgmd-tokenizer beside the
  /// running program. Throws Error with the child's own words when it does not come up.
  explicit TokenizerClient(const std::filesystem::path& model, std::filesystem::path program = {});
  ~TokenizerClient();
  TokenizerClient(const TokenizerClient&) = delete;

  /// Ids of `text` (UTF-8, already cleaned), EOS last, at most `max_length` with it. Throws Error when the child has died.
  std::vector<std::int64_t> Encode(std::string_view text, std::int64_t max_length);

  /// Of the file spiece.model.
  const Digest& digest() const { return digest_; }
  const std::filesystem::path& model() const { return model_; }

 private:
  void Start(const std::filesystem::path& model);
  std::string Ask(const std::string& request);  // both lines; the request with its line end
  [[noreturn]] void FailDead();

  std::filesystem::path program_, model_;
  Digest digest_;
  pid_t pid_ = -1;
  int channel_ = -1;
  int complaints_ = -1;  // the child's stderr, a file in memory
  std::string partial_;
};

}  // namespace sgmd
