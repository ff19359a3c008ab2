// Writes resolved settings as TOML that TomlFile reads back to equal values.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "common/error/error.h"

namespace sgmd {

class TomlWriter {
 public:
  TomlWriter& Table(std::string_view name) {
    text_ += StrCat(text_.empty() ? "" : "\n", "[", name, "]\n");
    return *this;
  }
  TomlWriter& Text(std::string_view key, std::string_view value) { return Line(key, Quoted(value)); }
  TomlWriter& Texts(std::string_view key, const std::vector<std::string>& values) {
    std::string list;
    for (const std::string& value : values) list += (list.empty() ? "" : ", ") + Quoted(value);
    return Line(key, "[" + list + "]");
  }
  TomlWriter& Integer(std::string_view key, std::int64_t value) { return Line(key, std::to_string(value)); }
  TomlWriter& Boolean(std::string_view key, bool value) { return Line(key, value ? "true" : "false"); }
  TomlWriter& Real(std::string_view key, double value) {
    char digits[40];
    std::snprintf(digits, sizeof digits, "%.17g", value);
    std::string number = digits;
    if (number.find_first_of(".en") == std::string::npos) number += ".0";
    return Line(key, number);
  }
  TomlWriter& Integers(std::string_view key, const std::vector<std::int64_t>& values) {
    std::string list;
    for (const std::int64_t value : values) list += (list.empty() ? "" : ", ") + std::to_string(value);
    return Line(key, "[" + list + "]");
  }
  const std::string& text() const { return text_; }

 private:
  static std::string Quoted(std::string_view value) {
    std::string quoted = "\"";
    for (const char c : value) {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += c;
    }
    return quoted + '"';
  }
  TomlWriter& Line(std::string_view key, std::string_view value) {
    text_ += StrCat(key, " = ", value, "\n");
    return *this;
  }
  std::string text_;
};

}  // namespace sgmd
