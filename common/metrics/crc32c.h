// CRC-32C (Castagnoli), as record files use it.
#pragma once

#include <cstdint>
#include <string_view>

namespace sgmd {

std::uint32_t Crc32c(std::string_view bytes);

/// Rotated right by 15 bits plus 0xa282ead8, so that a CRC stored among checked bytes does not confuse the check.
std::uint32_t MaskedCrc32c(std::string_view bytes);

}  // namespace sgmd
