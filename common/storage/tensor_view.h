// A tensor as bytes: what files and messages carry. No LibTorch here; pipeline/tensors/tensor_bytes.h converts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sgmd {

/// Element types, named as safetensors names them. The numbers are part of the wire format (schemas/wire.fbs).
enum class DType : std::uint8_t { kBool = 0, kU8, kI8, kI16, kU16, kF16, kBF16, kI32, kU32, kF32, kF64, kI64, kU64 };
inline constexpr int kDTypeCount = 13;

/// Bytes per element.
std::size_t ByteSize(DType dtype);
/// "F32", "BF16", ...
std::string_view Name(DType dtype);
/// Throws Error on a name that is not one of the above.
DType DTypeFromName(std::string_view name);

/// Product of the extents times the element size, in bytes. Throws Error on a negative extent or on overflow.
std::size_t CheckedByteSize(DType dtype, std::span<const std::int64_t> shape);

/// Row-major, little-endian, not owned. bytes.size() == CheckedByteSize(dtype, shape). `bytes` may be unaligned.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Whether no element is infinite or not a number. True of types that have no such values.
bool AllFinite(const TensorView& view);

}  // namespace sgmd
