// Typed reading of TOML with errors a person can act on: file:line:col, the line, a caret, a hint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/fields.h"

namespace sgmd {

/// Values given on a command line in place of those of a file: each "section.key=value", the value as TOML or as a
/// bare word.
using TomlOverrides = std::vector<std::string>;

class TomlFile;

/// One table of a file. Every read key is remembered; Finish() refuses the others.
class TomlTable {
 public:
  /// Each returns the value, or `fallback` when the key is absent; without a fallback an absent key is an Error.
  std::string Text(std::string_view key, std::optional<std::string> fallback = {});
  std::string Choice(std::string_view key, const std::vector<std::string>& allowed,
                     std::optional<std::string> fallback = {});
  std::int64_t Integer(std::string_view key, NumberRange range, std::optional<std::int64_t> fallback = {});
  double Real(std::string_view key, NumberRange range, std::optional<double> fallback = {});
  bool Boolean(std::string_view key, std::optional<bool> fallback = {});
  std::vector<std::int64_t> Integers(std::string_view key, NumberRange range,
                                     std::optional<std::vector<std::int64_t>> fallback = {});
  std::vector<std::string> Texts(std::string_view key, std::optional<std::vector<std::string>> fallback = {});
  /// Relative paths are taken from the folder of the file. A value that begins with $NAME, ${NAME} or ${NAME:-fallback}
  /// begins with that environment variable (relative to the working directory) or the fallback; an unset one without is
  /// an Error.
  std::filesystem::path Path(std::string_view key, std::optional<std::filesystem::path> fallback = {});
  bool Has(std::string_view key) const;
  /// Of a table whose keys are free: all of them, in the order of their names.
  std::vector<std::string> Keys() const;
  /// An absent table reads as empty.
  TomlTable Table(std::string_view key);
  /// Throws Error at the first key that nothing asked for, with the nearest known name as hint.
  void Finish();
  /// An Error located at `key` (or at the table when the key is absent).
  [[noreturn]] void Fail(std::string_view key, std::string message, std::string hint = {}) const;

 private:
  friend class TomlFile;
  struct Node;
  explicit TomlTable(std::shared_ptr<Node> node);
  std::shared_ptr<Node> node_;
};

class TomlFile {
 public:
  /// Throws Error on a missing file, bad syntax, or an override that is not of its form. An error about an override's
  /// value is located at the override.
  static TomlFile Open(const std::filesystem::path& path, const TomlOverrides& overrides = {});
  TomlTable root() const;

 private:
  explicit TomlFile(TomlTable root);
  std::shared_ptr<TomlTable> root_;
};

}  // namespace sgmd
