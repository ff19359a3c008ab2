// One answer of a teacher as bytes on disk.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/transport/envelope.h"

namespace sgmd {

/// value := header shape payload, little-endian
///   header  := magic u32 "SGSC" | version u8 = 1 | dtype u8 | rank u8 | zero u8 | XXH3-64 of payload u64    16 bytes
///   shape   := extent i64, `rank` times
///   payload := the tensor's bytes, row-major
std::string EncodeAnswer(const TensorFrame& answer);

/// The tensor, without a name, sharing and owning the bytes of `value` and carrying their checksum. Nothing unless the
/// value is whole, its checksum holds and every element is finite.
std::optional<TensorFrame> DecodeAnswer(std::shared_ptr<const std::string> value);

}  // namespace sgmd
