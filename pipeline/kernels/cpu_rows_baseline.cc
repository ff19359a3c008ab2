// The loops of cpu_rows.h for the instruction set that every processor has.
#define SGMD_ISA Isa::kBaseline
#include "pipeline/kernels/cpu_rows_for.h"
