// The loops of cpu_rows.h for AVX-512.
#define SGMD_ISA Isa::kAvx512
#include "pipeline/kernels/cpu_rows_for.h"
