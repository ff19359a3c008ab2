#include "common/transport/identity.h"

#include <random>

namespace sgmd {

std::uint64_t ProcessNumber() {
  static const std::uint64_t number = (std::uint64_t{std::random_device{}()} << 32 | std::random_device{}()) | 1;
  return number;
}

}  // namespace sgmd
