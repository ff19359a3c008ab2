// Work counted in forward-equivalents of one sample: a forward pass 1, a backward pass to inputs 1, a backward pass to
// inputs and weights 2 (wan_facts §7); to inputs and adapters over a frozen base 1, as the adapters themselves cost
// percents.
#pragma once

#include <cstdint>

namespace sgmd {

struct Work {
  std::int64_t forward = 0;         // samples passed forward
  std::int64_t backward_input = 0;  // samples passed backward to the input alone
  std::int64_t backward_full = 0;   // samples passed backward to input and weights
  std::int64_t recomputed = 0;      // samples of which blocks ran forward once more within a backward pass; any: whole

  double ForwardEquivalents() const {
    return static_cast<double>(forward + backward_input + 2 * backward_full + recomputed);
  }
};

}  // namespace sgmd
