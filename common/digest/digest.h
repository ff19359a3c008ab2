// Content digests: XXH3-128 for identity, XXH3-64 for checksums. Not cryptographic.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace sgmd {

/// A 128-bit content digest. Ordered, hashable by `lo`.
struct Digest {
  std::uint64_t hi = 0;
  std::uint64_t lo = 0;

  auto operator<=>(const Digest&) const = default;

  /// 32 lower-case hexadecimal digits, hi first.
  std::string Hex() const;
  /// Throws Error unless `text` is 32 hexadecimal digits.
  static Digest FromHex(std::string_view text);
};

/// XXH3-128 over a sequence of fields, each preceded by its length in bytes (u64 little-endian), so that no two
/// different field sequences share a byte stream.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  Hasher& Bytes(std::span<const std::byte> bytes);
  Hasher& Text(std::string_view text);
  Hasher& Integer(std::uint64_t value);
  /// The IEEE-754 bit pattern; -0.0 and 0.0 differ.
  Hasher& Real(double value);
  Digest Finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// XXH3-128 of plain bytes, no length prefix.
Digest DigestBytes(std::span<const std::byte> bytes);
Digest DigestText(std::string_view text);
/// XXH3-128 of a file's bytes, read in blocks; `progress` is told after each how many bytes are done. Throws Error if
/// it cannot be read. Digests of models are asked for through DigestCache (common/storage).
Digest DigestFile(const std::filesystem::path& path, const std::function<void(std::uint64_t done)>& progress = {});
/// XXH3-64 of plain bytes.
std::uint64_t Checksum(std::span<const std::byte> bytes);

}  // namespace sgmd
