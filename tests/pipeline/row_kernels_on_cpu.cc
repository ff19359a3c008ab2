// The launchers of CUDA, compiled for the CPU.
#include <cmath>
#include <cstring>

#include "tests/support/cuda_on_cpu/cuda_runtime.h"

#define __CUDACC__
#include "pipeline/kernels/row_kernels.cu"
