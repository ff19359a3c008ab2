// How the entries of an answer table are spelled as keys (answer_table.h lists them).
#pragma once

#include <cstring>
#include <string>
#include <string_view>

#include "nodes/broker/answer_table.h"

namespace sgmd {

struct SegmentCounts {
  std::int64_t entries, bytes;
};
static_assert(sizeof(SegmentCounts) == 16);

struct PlaceEntry {
  Digest key;
  std::uint64_t segment;
};
static_assert(sizeof(PlaceEntry) == 24);

inline std::string DigestKey(char kind, const Digest& key) {
  std::string text(17, kind);
  std::memcpy(text.data() + 1, &key.hi, 8);
  std::memcpy(text.data() + 9, &key.lo, 8);
  return text;
}

// Big-endian, so that keys ascend with numbers.
inline void AppendNumber(std::string& text, std::uint64_t number) {
  const std::uint64_t big_endian = __builtin_bswap64(number);
  text.append(reinterpret_cast<const char*>(&big_endian), 8);
}

inline std::uint64_t NumberAt(std::string_view text, std::size_t at) {
  std::uint64_t big_endian = 0;
  std::memcpy(&big_endian, text.data() + at, 8);
  return __builtin_bswap64(big_endian);
}

inline std::string CountsKey(std::uint64_t segment) {
  std::string text = "c";
  AppendNumber(text, segment);
  return text;
}

inline constexpr std::size_t kPlaceKeyBytes = 17 + 8 + 1 + 8 + 8;

inline std::string PlaceKey(const AnswerPlace& place) {
  std::string text = DigestKey('t', place.experiment);
  AppendNumber(text, static_cast<std::uint64_t>(place.step));
  text.push_back(static_cast<char>(place.kind));
  AppendNumber(text, static_cast<std::uint64_t>(place.index));
  AppendNumber(text, place.rollbacks);
  return text;
}

inline AnswerPlace PlaceIn(std::string_view text, const Digest& experiment) {
  return {experiment, NumberAt(text, 34), static_cast<std::uint8_t>(text[25]),
          static_cast<std::int64_t>(NumberAt(text, 17)), static_cast<std::int32_t>(NumberAt(text, 26))};
}

}  // namespace sgmd
