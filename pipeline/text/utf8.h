// Code points of UTF-8 text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sgmd {

/// A code point and the bytes it takes. `value` is kNotUtf8 for a byte that begins no valid sequence (size 1): overlong forms,
/// surrogates and what is beyond U+10FFFF are not valid.
struct CodePoint {
  static constexpr char32_t kNotUtf8 = 0xFFFFFFFF;
  char32_t value;
  std::size_t size;
};

/// The one at `position`, which is inside `text`.
inline CodePoint DecodeUtf8(std::string_view text, std::size_t position) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[position + i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || position + size > text.size()) return {CodePoint::kNotUtf8, 1};
  char32_t value = first & (0x7FU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {CodePoint::kNotUtf8, 1};
    value = value << 6 | (byte(i) & 0x3FU);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool valid = value >= kSmallest[size] && value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF);
  return valid ? CodePoint{value, size} : CodePoint{CodePoint::kNotUtf8, 1};
}

/// Appends a code point of at most U+10FFFF.
inline void AppendUtf8(char32_t value, std::string* out) {
  if (value < 0x80) {
    out->push_back(static_cast<char>(value));
    return;
  }
  const int more = value < 0x800 ? 1 : value < 0x10000 ? 2 : 3;
  out->push_back(static_cast<char>((0xF00U >> more & 0xFFU) | value >> (6 * more)));
  for (int i = more - 1; i >= 0; --i) out->push_back(static_cast<char>(0x80U | (value >> (6 * i) & 0x3FU)));
}

}  // namespace sgmd
