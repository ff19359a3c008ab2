#include "common/storage/tensor_view.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "common/error/error.h"

namespace sgmd {
namespace {

struct Info {
  std::string_view name;
  std::size_t bytes;
};
constexpr std::array<Info, kDTypeCount> kInfo{{{"BOOL", 1},
                                               {"U8", 1},
                                               {"I8", 1},
                                               {"I16", 2},
                                               {"U16", 2},
                                               {"F16", 2},
                                               {"BF16", 2},
                                               {"I32", 4},
                                               {"U32", 4},
                                               {"F32", 4},
                                               {"F64", 8},
                                               {"I64", 8},
                                               {"U64", 8}}};

const Info& InfoOf(DType dtype) {
  const auto i = static_cast<std::size_t>(dtype);
  if (i >= kInfo.size()) throw Error(StrCat("unknown dtype number ", i));
  return kInfo[i];
}

// A value is not finite when all bits of its exponent are set. Blocks of constant size become vector instructions.
template <typename Bits>
bool AllFiniteBits(std::span<const std::byte> bytes, Bits exponent) {
  constexpr std::size_t kBlock = 1024;
  std::array<Bits, kBlock> block;
  for (std::size_t at = 0; at < bytes.size(); at += sizeof block) {
    const std::size_t size = std::min(sizeof block, bytes.size() - at);
    if (size < sizeof block) block.fill(0);
    std::memcpy(block.data(), bytes.data() + at, size);
    Bits found = 0;
    for (const Bits value : block) found |= static_cast<Bits>((value & exponent) == exponent);
    if (found != 0) return false;
  }
  return true;
}

}  // namespace

std::size_t ByteSize(DType dtype) { return InfoOf(dtype).bytes; }

std::string_view Name(DType dtype) { return InfoOf(dtype).name; }

DType DTypeFromName(std::string_view name) {
  for (std::size_t i = 0; i < kInfo.size(); ++i) {
    if (kInfo[i].name == name) return static_cast<DType>(i);
  }
  throw Error(StrCat("unknown dtype \"", name, "\""));
}

std::size_t CheckedByteSize(DType dtype, std::span<const std::int64_t> shape) {
  std::size_t size = ByteSize(dtype);
  for (const std::int64_t extent : shape) {
    if (extent < 0) throw Error(StrCat("negative extent ", extent, " in a tensor shape"));
    if (__builtin_mul_overflow(size, static_cast<std::size_t>(extent), &size)) {
      throw Error("the size of a tensor overflows 64 bits");
    }
  }
  return size;
}

bool AllFinite(const TensorView& view) {
  switch (view.dtype) {
    case DType::kF16:
      return AllFiniteBits<std::uint16_t>(view.bytes, 0x7C00);
    case DType::kBF16:
      return AllFiniteBits<std::uint16_t>(view.bytes, 0x7F80);
    case DType::kF32:
      return AllFiniteBits<std::uint32_t>(view.bytes, 0x7F800000);
    case DType::kF64:
      return AllFiniteBits<std::uint64_t>(view.bytes, 0x7FF0000000000000);
    default:
      return true;
  }
}

}  // namespace sgmd
