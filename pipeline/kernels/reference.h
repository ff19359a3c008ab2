// What the functions of kernels.h compute, as chains of ATen's operations: for every dtype and device, and what the
// fused kernels are held against.
#pragma once

#include "pipeline/kernels/kernels.h"

namespace sgmd::reference {

at::Tensor AdaptiveNorm(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift, double eps);
StreamAndNorm AddThenNorm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate, const at::Tensor& scale,
                          const at::Tensor& shift, double eps);
at::Tensor AddGated(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate);
at::Tensor RmsNormThenRotate(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& table, double eps);
at::Tensor Gelu(const at::Tensor& x);

}  // namespace sgmd::reference
