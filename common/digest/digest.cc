#include "common/digest/digest.h"

#include <xxhash.h>

#include <array>
#include <bit>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <vector>

#include "common/error/error.h"
#include "common/metrics/work_count.h"

namespace sgmd {
namespace {

static_assert(std::endian::native == std::endian::little, "lengths are hashed little-endian");

Digest FromXxh(const XXH128_hash_t& hash) { return {hash.high64, hash.low64}; }

}  // namespace

struct Hasher::State {
  XXH3_state_t* xxh = XXH3_createState();
  State() { XXH3_128bits_reset(xxh); }
  ~State() { XXH3_freeState(xxh); }
};

std::string Digest::Hex() const {
  std::array<char, 33> text{};
  std::snprintf(text.data(), text.size(), "%016llx%016llx", static_cast<unsigned long long>(hi),
                static_cast<unsigned long long>(lo));
  return text.data();
}

Digest Digest::FromHex(std::string_view text) {
  Digest digest;
  const auto half = [&](std::size_t begin, std::uint64_t* out) {
    const char* first = text.data() + begin;
    return std::from_chars(first, first + 16, *out, 16).ptr == first + 16;
  };
  if (text.size() != 32 || !half(0, &digest.hi) || !half(16, &digest.lo)) {
    throw Error(StrCat("a digest is 32 hexadecimal digits, got \"", text, "\""));
  }
  return digest;
}

Hasher::Hasher() : state_(std::make_unique<State>()) {}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

Hasher& Hasher::Bytes(std::span<const std::byte> bytes) {
  const std::uint64_t length = bytes.size();
  XXH3_128bits_update(state_->xxh, &length, sizeof length);
  XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size());
  return *this;
}

Hasher& Hasher::Text(std::string_view text) { return Bytes(std::as_bytes(std::span(text))); }

Hasher& Hasher::Integer(std::uint64_t value) { return Bytes(std::as_bytes(std::span(&value, 1))); }

Hasher& Hasher::Real(double value) { return Integer(std::bit_cast<std::uint64_t>(value)); }

Digest Hasher::Finish() const { return FromXxh(XXH3_128bits_digest(state_->xxh)); }

Digest DigestBytes(std::span<const std::byte> bytes) { return FromXxh(XXH3_128bits(bytes.data(), bytes.size())); }

Digest DigestText(std::string_view text) { return DigestBytes(std::as_bytes(std::span(text))); }

Digest DigestFile(const std::filesystem::path& path, const std::function<void(std::uint64_t done)>& progress) {
  std::ifstream file(path, std::ios::binary);
  if (!file) ThrowErrno("cannot open", path.string());
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(state.get());
  std::vector<char> block(1 << 20);
  std::uint64_t done = 0;
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    XXH3_128bits_update(state.get(), block.data(), static_cast<std::size_t>(file.gcount()));
    done += static_cast<std::uint64_t>(file.gcount());
    CountWork();
    if (progress && file.gcount() > 0) progress(done);
  }
  if (file.bad()) ThrowErrno("cannot read", path.string());
  return FromXxh(XXH3_128bits_digest(state.get()));
}

std::uint64_t Checksum(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace sgmd
