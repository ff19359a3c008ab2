#include "pipeline/kernels/cpu_rows.h"

namespace sgmd::rows {

const std::vector<Isa>& Isas() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> found{Isa::kBaseline};
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) found.push_back(Isa::kAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      found.push_back(Isa::kAvx512);
    }
#endif
    return found;
  }();
  return isas;
}

}  // namespace sgmd::rows
