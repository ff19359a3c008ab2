// The loops of cpu_rows.h for AVX2.
#define SGMD_ISA Isa::kAvx2
#include "pipeline/kernels/cpu_rows_for.h"
