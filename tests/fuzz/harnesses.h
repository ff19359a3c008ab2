// What reads bytes that somebody else wrote, one function each. libFuzzer calls them with what it makes up (fuzzer.cc),
// and the test of every change with the committed corpora (corpora_test.cc).
#pragma once

#include <span>
#include <string_view>

namespace sgmd {

struct Harness {
  std::string_view name;  // and of its folder in corpora/
  /// Reads `bytes`. An Error is an answer; anything else that escapes, and any finding of a sanitizer, is a defect.
  void (*read)(std::span<const std::byte> bytes);
};

std::span<const Harness> Harnesses();

}  // namespace sgmd
