// Every input of the corpora, among them those that were findings once.
#include <gtest/gtest.h>

#include <filesystem>

#include "common/storage/atomic_folder.h"
#include "tests/fuzz/harnesses.h"

namespace sgmd {
namespace {

TEST(Corpora, AreReadWithoutAFinding) {
  for (const Harness& harness : Harnesses()) {
    int inputs = 0;
    for (const auto& entry : std::filesystem::directory_iterator(
             std::filesystem::path(SGMD_SOURCE_DIR "/tests/fuzz/corpora") / harness.name)) {
      const std::string bytes = ReadFile(entry.path());
      EXPECT_NO_THROW(harness.read(std::as_bytes(std::span(bytes)))) << entry.path();
      ++inputs;
    }
    EXPECT_GE(inputs, 3) << harness.name;
  }
}

}  // namespace
}  // namespace sgmd
