#include "common/storage/tensor_view.h"

#include <array>

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

}  // namespace sgmd
