// The program of libFuzzer: SGMD_FUZZ names the harness (tests/fuzz/run starts it).
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/harnesses.h"

namespace {

const sgmd::Harness* chosen = nullptr;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* name = std::getenv("SGMD_FUZZ");
  for (const sgmd::Harness& harness : sgmd::Harnesses()) {
    if (name != nullptr && harness.name == name) chosen = &harness;
  }
  if (chosen == nullptr) {
    std::fputs("SGMD_FUZZ names no harness of tests/fuzz/harnesses.cc\n", stderr);
    std::exit(2);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  chosen->read(std::as_bytes(std::span(data, size)));
  return 0;
}
