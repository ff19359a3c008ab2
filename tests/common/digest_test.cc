#include "common/digest/digest.h"

#include <gtest/gtest.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

// Values of the reference implementation of XXH3 for empty input, seed 0.
TEST(Digest, OfNothingIsTheReferenceValue) {
  EXPECT_EQ(DigestText("").Hex(), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(Checksum({}), 0x2d06800538d394c2ULL);
}

TEST(Digest, HexRoundTripsAndRefusesOtherText) {
  const Digest digest = DigestText("sgmd");
  EXPECT_EQ(Digest::FromHex(digest.Hex()), digest);
  EXPECT_THROW(Digest::FromHex("12"), Error);
  EXPECT_THROW(Digest::FromHex(std::string(32, 'g')), Error);
}

TEST(Hasher, KeepsFieldBoundaries) {
  EXPECT_NE(Hasher().Text("ab").Text("c").Finish(), Hasher().Text("a").Text("bc").Finish());
  EXPECT_NE(Hasher().Text("").Text("a").Finish(), Hasher().Text("a").Text("").Finish());
  EXPECT_NE(Hasher().Real(0.0).Finish(), Hasher().Real(-0.0).Finish());
}

TEST(Digest, OfAFileIsThatOfItsBytes) {
  TempFolder folder;
  const std::string bytes(3'000'000, 'x');  // more than one block
  WriteFileAtomically(folder / "file", bytes);
  EXPECT_EQ(DigestFile(folder / "file"), DigestText(bytes));
  std::uint64_t last = 0;
  DigestFile(folder / "file", [&](std::uint64_t done) {
    EXPECT_GT(done, last);
    last = done;
  });
  EXPECT_EQ(last, bytes.size());
  EXPECT_THROW(DigestFile(folder / "absent"), Error);
}

}  // namespace
}  // namespace sgmd
