// Files of prompts as people have them. No LibTorch.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sgmd {

/// The prompts of a file in order, as they stand there.
struct PromptFile {
  std::vector<std::string> prompts;
  std::int64_t duplicates = 0;  // left out

  /// A text that comes again is left out and counted, or with `keep_duplicates` is a prompt again.
  /// UTF-8, a byte order mark is skipped. By extension:
  ///   .txt    a prompt a line, empty lines are skipped
  ///   .jsonl  a JSON object a line with a string "prompt" or else "text"
  ///   .csv    comma-separated with quotes as in RFC 4180; the header names a column "prompt", "text" or "caption"
  /// Throws Error with file:line on anything else, an empty prompt (but in .txt) and bytes that are not UTF-8; and on a
  /// file without prompts.
  static PromptFile Read(const std::filesystem::path& path, bool keep_duplicates = false);
};

}  // namespace sgmd
